"""One picture that is no number, on one rank only: no rank's weights or running statistics change, then or later."""

from __future__ import annotations

from typing import Any

import pytest
from parallel.trials import ENGINES, Result, Settings, assert_close, assert_ranks_agree, run_trials, trial

DISTRIBUTED = [engine for engine in ENGINES if engine != "plain"]
CLIPPED = {"training": {"gradient_clip": 1.0}}
PARTS: dict[str, Any] = {"data": {"batch_size": 12, "micro_batches": 2}}


def trials_of(engine: str) -> dict[str, Settings]:
    """The picture is the first of rank 1, so with two parts it is in the one whose gradients do not travel."""
    return {
        f"before-{engine}": trial(engine, "adamw", "synchronised", steps=3),
        f"after-{engine}": trial(engine, "adamw", "synchronised", poison=[3, 1]),
        f"clipped-{engine}": trial(engine, "adamw", "synchronised", poison=[0, 1], **CLIPPED),
        f"parts-before-{engine}": trial(engine, "sgd", "local", steps=3, **PARTS),
        f"parts-after-{engine}": trial(engine, "sgd", "local", poison=[3, 1], **PARTS),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    every = {name: settings for engine in DISTRIBUTED for name, settings in trials_of(engine).items()}
    start = {"start": trial("ddp", steps=0)}
    return run_trials(tmp_path_factory.mktemp("trials"), 2, {**start, **every})


def assert_nothing_moved(after: Result, before: Result, network: str) -> None:
    assert_ranks_agree(after)
    assert_close(after["weights"][0][network], before["weights"][0][network], 0)


@pytest.mark.parametrize("engine", DISTRIBUTED)
@pytest.mark.parametrize("kind", ["", "parts-"])
def test_no_rank_moves_then_or_later(trained: dict[str, Result], engine: str, kind: str) -> None:
    before, after = trained[f"{kind}before-{engine}"], trained[f"{kind}after-{engine}"]
    assert "error" not in after, after["error"]
    assert before["healthy"] == [{"classifier": 1.0, "masker": 1.0}] * 2
    assert after["healthy"] == [{"classifier": 0.0, "masker": 0.0}] * 2
    for network in ("classifier", "masker"):
        assert_nothing_moved(after, before, network)


@pytest.mark.parametrize("engine", DISTRIBUTED)
def test_in_the_first_step_it_stops_only_what_that_step_updates(trained: dict[str, Result], engine: str) -> None:
    """With clipping, whose norm is NaN; the masker starts a step later and looks at a classifier that is whole."""
    start, after = trained["start"], trained[f"clipped-{engine}"]
    assert "error" not in after, after["error"]
    assert after["healthy"] == [{"classifier": 0.0, "masker": 1.0}] * 2
    assert_nothing_moved(after, start, "classifier")
    with pytest.raises(AssertionError):
        assert_nothing_moved(after, start, "masker")
