"""The final weights of runs, compared; and a run with a pause."""

from __future__ import annotations

from pathlib import Path

import torch

from align_dist.config import RunConfig
from align_dist.errors import Preempted
from align_dist.run import train_run
from align_dist.runs.checkpoint import load_weights
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State, status_of


def weights(folder: Path, selection: str = "last") -> dict[str, torch.Tensor]:
    """All networks' selected weights in a run's folder."""
    networks = load_weights(folder / "selected" / f"{selection}.pt")["networks"]
    return {f"{n}.{k}": v for n, state in networks.items() for k, v in state.items()}


def assert_same_weights(left: Path, right: Path, selection: str = "last") -> None:
    """Bit for bit, of two run folders."""
    ours, theirs = weights(left, selection), weights(right, selection)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


def trained_with_and_without_a_pause(config: RunConfig, folder: Path, until: str) -> tuple[RunConfig, RunConfig]:
    """One run below `folder` twice, straight through and paused at `until`, whose last weights are the same."""
    straight, paused = (config.model_copy(update={"runs": folder / kind}) for kind in ("straight", "paused"))
    train_run(straight, say=lambda _: None)
    first = paused.training.model_copy(update={"until": until})
    train_run(paused.model_copy(update={"training": first}), say=lambda _: None)
    ending = RunFolder(paused.folder).ending()
    assert ending is not None and ending.error is Preempted
    assert status_of(RunFolder(paused.folder)).state is State.INTERRUPTED
    train_run(paused, say=lambda _: None)
    assert_same_weights(straight.folder, paused.folder)
    return straight, paused
