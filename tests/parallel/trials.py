"""Runs trials of `alternation.py` in real ranks, and says whether two of them trained alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from ranks import run_ranks
from torch import Tensor

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs" / "deepspeed"
Settings = dict[str, Any]
# The masker begins at step 1, guidance at step 2; epochs have 4 steps.
LENGTHS = {"length": "10 steps", "warmup": "2 steps"}
MASKER = {"width": 4, "area": 0.4}
Result = dict[str, Any]

ENGINES: dict[str, Settings] = {
    "plain": {"engine": "plain"},
    "ddp": {"engine": "ddp"},
    **{f"zero{i}": {"engine": "deepspeed", "deepspeed": str(CONFIGS / f"zero{i}.json")} for i in range(4)},
    # ZeRO-3 keeps small parameters whole, which here are all but one.
    "sharded": {"engine": "deepspeed", "deepspeed": str(HERE / "sharded.json")},
}


def trial(
    engine: str, optimiser: str = "sgd", batchnorm: str = "frozen", attribution: str = "grad_cam", **settings: Any
) -> Settings:
    """ALIGN on 12 pictures a step, without the mixup regulariser unless a trial asks for it.

    The rates: both networks move by 1e-3 or more a step, and a ReLU that rounding opened or closed stays small.
    """
    rates = {"sgd": (0.002, 0.05), "adamw": (1e-3, 1e-3)}[optimiser]
    classifier, masker = ({"name": optimiser, "learning_rate": rate} for rate in rates)
    shape = {"backbone": "resnet8", "batchnorm": batchnorm, "attribution": attribution}
    common: Settings = {
        "method": "align",
        "data": {"batch_size": 12},
        "classifier": {**shape, "optimiser": classifier},
        "align": {"lambda4": 0.0, "masker_head_start": "1 steps", "masker": {"optimiser": masker, **MASKER}},
        "fixed_mask": {"lambda4": 0.0},
        "distributed": ENGINES[engine],
    }
    # Whatever pays on this machine: equality is of the same arithmetic everywhere.
    training = {"precision": "float32", "channels_last": False, **LENGTHS, **settings.get("training", {})}
    align = {**common["align"], **settings.get("align", {})}
    return {**common, **settings, "training": training, "align": align}


def run_trials(
    folder: Path, world_size: int, trials: dict[str, Settings], launcher: str = "torchrun"
) -> dict[str, Result]:
    """What each of them wrote; more than one engine may be among them. A process group is there on one rank, too."""
    path = folder / f"trials-{world_size}.json"
    path.write_text(json.dumps(trials))
    run_ranks(world_size, [str(HERE / "alternation.py"), str(folder), "ddp", str(path)], launcher)
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in trials}


def assert_same_training(
    actual: Result, wanted: Result, weights: float = 1e-6, state: float = 1e-4, terms: float = 1e-4
) -> None:
    """Equal weights and optimiser states at the end, equal terms all the way, equal ranks.

    weights: the largest difference. state, terms: the same, as a part of a tensor's largest entry. All 0: each bit.
    """
    assert "error" not in actual, actual["error"]
    assert "error" not in wanted, wanted["error"]
    assert_ranks_agree(actual)
    for network, engine in wanted["networks"].items():
        other = actual["networks"][network]
        assert_close(other["module"], engine["module"], weights)
        assert_same_optimiser(other["optimiser"], engine["optimiser"], state)
    assert_same_terms(actual, wanted, terms)


def assert_ranks_agree(result: Result) -> None:
    first, *others = result["weights"]
    for other in others:
        for network, weights in first.items():
            assert_close(other[network], weights, 0)


def assert_close(actual: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert actual.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def assert_same_optimiser(actual: Settings, wanted: Settings, tolerance: float) -> None:
    assert actual["param_groups"][0]["lr"] == wanted["param_groups"][0]["lr"]
    assert actual["param_groups"][0]["params"] == wanted["param_groups"][0]["params"]
    assert actual["state"].keys() == wanted["state"].keys()
    for index, entry in wanted["state"].items():
        values = {key: value for key, value in entry.items() if value is not None}
        assert actual["state"][index].keys() == values.keys()
        for key, value in values.items():
            scaled = tolerance * float(value.abs().max())
            torch.testing.assert_close(actual["state"][index][key], value, rtol=0, atol=scaled)


def assert_same_terms(actual: Result, wanted: Result, tolerance: float) -> None:
    """The mean over ranks: each logs its own share of a batch."""
    assert len(actual["logged"][0]) == len(wanted["logged"][0]) > 0
    for step in range(len(wanted["logged"][0])):
        here, there = mean_terms(actual, step), mean_terms(wanted, step)
        assert here.keys() == there.keys()
        for name, value in there.items():
            torch.testing.assert_close(here[name], value, rtol=tolerance, atol=0, msg=lambda m, n=name: f"{n}: {m}")


def mean_terms(result: Result, step: int) -> dict[str, Tensor]:
    ranks = [logged[step] for logged in result["logged"]]
    return {name: torch.stack([terms[name] for terms in ranks]).double().mean() for name in ranks[0]}


def movement(result: Result, start: Result, network: str) -> Tensor:
    """Where training took a network's weights, as one vector."""
    after, before = (r["networks"][network]["module"] for r in (result, start))
    return torch.cat([(after[name] - before[name]).flatten().double() for name in before])
