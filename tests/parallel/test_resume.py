"""A state goes on where it was saved: bit for bit on the same engine and ranks, to rounding on others."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from parallel.trials import Result, Settings, assert_same_training, run_trials, trial

ENGINES = ("ddp", "zero1", "zero3")
# Under DeepSpeed weights and states are contiguous whatever the pictures are, under DDP they are not.
STATEFUL = ("ddp", "zero0", "zero1", "zero2", "zero3")
LAYOUTS = ("ddp", "zero0", "zero2", "zero3")


def to_itself_and_the_next(engines: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every engine saves for itself and for another, and loads from both: a state's file is of no engine."""
    return [*zip(engines, engines, strict=True), *zip(engines, (*engines[1:], engines[0]), strict=True)]


PAIRS = list(itertools.product(ENGINES, ENGINES))
EARLY_PAIRS, LAYOUT_PAIRS = to_itself_and_the_next(ENGINES), to_itself_and_the_next(LAYOUTS)


def whole(engine: str, **settings: Any) -> Settings:
    """Everything that has a state: AdamW, BatchNorm over all ranks, and random pairs of pictures."""
    return trial(engine, "adamw", "synchronised", align={"lambda4": 1.0}, **settings)


def portable(engine: str, **settings: Any) -> Settings:
    """A rate at which an entry whose gradient is rounding, which Adam steps by in full, stays within tolerance."""
    config = trial(engine, "adamw", **settings)
    for network in (config["classifier"], config["align"]["masker"]):
        network["optimiser"]["learning_rate"] = 1e-4
    return config


def with_state(engine: str, **settings: Any) -> Settings:
    """A method that keeps a state of its own, over the domains of both ranks."""
    return portable(engine, method="groupdro", groupdro={"eta": 0.5}, **settings)


def in_channels_last(engine: str, **settings: Any) -> Settings:
    return portable(engine, training={"channels_last": True}, **settings)


def on_two_ranks() -> dict[str, Settings]:
    return {
        **{f"straight-{e}": whole(e) for e in ENGINES},
        **{f"saved-{e}": whole(e, steps=3) for e in ENGINES},
        **{f"resumed-{e}": whole(e, first=3, steps=2, resume=f"saved-{e}") for e in ENGINES},
        **{f"early-{e}": portable(e, steps=1) for e in ENGINES},
        **{f"from-early-{a}-on-{b}": portable(b, first=1, steps=2, resume=f"early-{a}") for a, b in EARLY_PAIRS},
        **{f"late-{e}": portable(e, steps=3) for e in ENGINES},
        **{f"from-late-{a}-on-{b}": portable(b, first=3, steps=2, resume=f"late-{a}") for a, b in PAIRS},
        **{f"channels-last-{e}": in_channels_last(e, steps=3) for e in LAYOUTS},
        **{
            f"channels-last-{a}-on-{b}": in_channels_last(b, first=3, steps=2, resume=f"channels-last-{a}")
            for a, b in LAYOUT_PAIRS
        },
        **{f"state-straight-{e}": with_state(e, steps=4) for e in STATEFUL},
        **{f"state-saved-{e}": with_state(e, steps=2) for e in STATEFUL},
        **{f"state-resumed-{e}": with_state(e, first=2, steps=2, resume=f"state-saved-{e}") for e in STATEFUL},
        "zero3-in-shards": portable("sharded", steps=3),
        "from-shards-on-shards": portable("sharded", first=3, steps=2, resume="zero3-in-shards"),
    }


def on_one_process() -> dict[str, Settings]:
    return {
        **{f"from-early-{e}-on-plain": portable("plain", first=1, steps=2, resume=f"early-{e}") for e in ENGINES},
        "state-on-plain": with_state("plain", first=2, steps=2, resume="state-saved-ddp"),
        **{f"from-late-{e}-on-plain": portable("plain", first=3, steps=2, resume=f"late-{e}") for e in ENGINES},
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("trials")
    return {**run_trials(folder, 2, on_two_ranks(), "srun"), **run_trials(folder, 1, on_one_process())}


def last_steps(result: Result, count: int) -> Result:
    return {**result, "logged": [logged[-count:] for logged in result["logged"]]}


@pytest.mark.parametrize("engine", ENGINES)
def test_three_steps_saved_and_two_more_are_five_bit_for_bit(trained: dict[str, Result], engine: str) -> None:
    straight = last_steps(trained[f"straight-{engine}"], 2)
    assert_same_training(trained[f"resumed-{engine}"], straight, weights=0, state=0, terms=0)


def test_every_entry_of_a_parameter_that_does_not_divide_comes_back(trained: dict[str, Result]) -> None:
    """ZeRO-3 with everything sharded, so that the last shard of each odd parameter is padded."""
    assert_same_training(trained["from-shards-on-shards"], trained["from-late-ddp-on-ddp"])


@pytest.mark.parametrize(("saved", "resumed"), [*PAIRS, *((engine, "plain") for engine in ENGINES)])
def test_a_state_goes_on_under_any_engine_and_on_one_process(
    trained: dict[str, Result], saved: str, resumed: str
) -> None:
    assert_same_training(trained[f"from-late-{saved}-on-{resumed}"], trained["from-late-ddp-on-ddp"])


@pytest.mark.parametrize("engine", ENGINES)
def test_saved_in_warmup_a_masker_has_no_optimiser_state(trained: dict[str, Result], engine: str) -> None:
    optimisers = {name: saved["optimiser"]["state"] for name, saved in trained[f"early-{engine}"]["networks"].items()}
    assert optimisers["masker"] == {} and len(optimisers["classifier"]) > 0


@pytest.mark.parametrize(("saved", "resumed"), [*EARLY_PAIRS, *((engine, "plain") for engine in ENGINES)])
def test_what_was_saved_in_warmup_loads_everywhere(trained: dict[str, Result], saved: str, resumed: str) -> None:
    straight = last_steps(trained["late-ddp"], 2)
    assert_same_training(trained[f"from-early-{saved}-on-{resumed}"], straight)


@pytest.mark.parametrize(("saved", "resumed"), LAYOUT_PAIRS)
def test_a_state_goes_on_whatever_its_memory_layout(trained: dict[str, Result], saved: str, resumed: str) -> None:
    assert_same_training(trained[f"channels-last-{saved}-on-{resumed}"], trained["from-late-ddp-on-ddp"])


@pytest.mark.parametrize("engine", STATEFUL)
def test_a_methods_state_goes_on_with_its_networks(trained: dict[str, Result], engine: str) -> None:
    straight, resumed = trained[f"state-straight-{engine}"], trained[f"state-resumed-{engine}"]
    assert_same_training(resumed, last_steps(straight, 2), weights=0, state=0, terms=0)
    wanted = straight["method"]["group_weights"]
    assert torch.equal(resumed["method"]["group_weights"], wanted)
    other, before = (trained[name]["method"]["group_weights"] for name in ("state-on-plain", f"state-saved-{engine}"))
    torch.testing.assert_close(other, wanted, rtol=1e-5, atol=1e-6)
    assert not torch.equal(before, wanted) and not torch.equal(before, torch.full((2,), 0.5))
