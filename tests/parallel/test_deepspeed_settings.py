from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from refusals import raises

from align_dist.errors import ConfigError
from align_dist.parallel.deepspeed_settings import complete_settings, read_settings, zero_stage

READY = Path(__file__).parents[2] / "configs" / "deepspeed"
OWNED = {
    "train_batch_size": 24,
    "train_micro_batch_size_per_gpu": 3,
    "gradient_accumulation_steps": 2,
    "gradient_clipping": 0.5,
    "zero_allow_untested_optimizer": True,
}


def complete(settings: dict[str, Any], clip: float | None = 0.5, stage: int = 1) -> dict[str, Any]:
    """24 pictures over 4 ranks in 2 parts."""
    whole = {"zero_optimization": {"stage": stage}, **settings}
    return complete_settings(whole, batch_size=24, world_size=4, micro_batches=2, gradient_clip=clip)


def test_what_the_run_decides_is_filled_in() -> None:
    result = complete({})
    assert {key: result[key] for key in OWNED} == OWNED


def test_what_is_deepspeeds_own_passes_through() -> None:
    theirs = {"zero_optimization": {"stage": 2, "overlap_comm": False}, "wall_clock_breakdown": True}
    settings = {**theirs, "steps_per_print": 7}
    result = complete(settings)
    assert {key: result[key] for key in settings} == settings
    assert complete({})["steps_per_print"] > 10**6
    assert settings == {**theirs, "steps_per_print": 7}, "the user's settings are theirs"


def test_clipping_is_always_told() -> None:
    """DeepSpeed clips at 1 where nothing is said; without ZeRO the engine clips itself."""
    assert complete({}, clip=None)["gradient_clipping"] == 0.0
    assert complete({}, clip=2.0)["gradient_clipping"] == 2.0
    assert complete({}, clip=2.0, stage=0)["gradient_clipping"] == 0.0
    assert complete({"gradient_clipping": 2.0}, clip=2.0, stage=0)["gradient_clipping"] == 0.0


@pytest.mark.parametrize("key", OWNED)
def test_auto_and_what_the_run_says_anyway_are_accepted(key: str) -> None:
    assert complete({key: "auto"})[key] == complete({key: OWNED[key]})[key] == OWNED[key]


@pytest.mark.parametrize(
    ("key", "wrong", "ours"),
    [
        ("train_batch_size", 32, "data.batch_size"),
        ("train_micro_batch_size_per_gpu", 6, "data.batch_size and the ranks"),
        ("gradient_accumulation_steps", 1, "data.micro_batches"),
        ("gradient_clipping", 1.0, "training.gradient_clip"),
        ("zero_allow_untested_optimizer", False, "classifier.optimiser"),
    ],
)
def test_a_contradiction_is_refused_by_its_key_and_ours(key: str, wrong: Any, ours: str) -> None:
    with raises(ConfigError, "distributed.deepspeed: ", f"{key}={wrong}", ours):
        complete({key: wrong})


@pytest.mark.parametrize("stage", [0, 1])
def test_clipping_in_the_json_alone_is_a_contradiction(stage: int) -> None:
    with raises(ConfigError, "gradient_clipping=1.0", "0.0", "training.gradient_clip"):
        complete({"gradient_clipping": 1.0}, clip=None, stage=stage)


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("optimizer", "classifier.optimiser and masker.optimiser"),
        ("scheduler", "classifier.optimiser.schedule"),
        ("fp16", "training.precision"),
        ("bf16", "training.precision"),
        ("torch_autocast", "training.precision"),
    ],
)
def test_what_the_runs_config_sets_is_refused_unless_switched_off(key: str, ours: str) -> None:
    for wanted in ({"enabled": True}, {"type": "Adam"}):
        with raises(ConfigError, f"distributed.deepspeed: {key} ", ours):
            complete({key: wanted})
    assert complete({key: {"enabled": False}})[key] == {"enabled": False}


@pytest.mark.parametrize("stage", range(4))
def test_the_ready_ones_are_readable_and_have_their_stage(stage: int) -> None:
    settings = read_settings(READY / f"zero{stage}.json")
    assert zero_stage(settings) == stage
    assert complete(settings)["zero_optimization"]["stage"] == stage


def test_without_a_stage_there_is_no_zero() -> None:
    assert zero_stage({}) == zero_stage({"zero_optimization": {}}) == 0


@pytest.mark.parametrize("part", [{"stage": 4}, {"stage": -1}, {"stage": "two"}, {"stage": None}, 3, []])
def test_another_stage_is_refused(part: Any) -> None:
    with raises(ConfigError, "distributed.deepspeed: ", "stage"):
        zero_stage({"zero_optimization": part})


@pytest.mark.parametrize("content", [None, b"{'stage': 1}", b"", b"\xff\xfe", b"[1]"])
def test_a_file_that_is_missing_or_no_json_object_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "zero.json"
    if content is not None:
        path.write_bytes(content)
    with raises(ConfigError, "distributed.deepspeed: ", path):
        read_settings(path)
