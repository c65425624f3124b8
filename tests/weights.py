"""The final weights of runs, compared."""

from __future__ import annotations

from pathlib import Path

import torch

from align_dist.training.checkpoint import load_weights


def weights(folder: Path, selection: str = "last") -> dict[str, torch.Tensor]:
    """All networks' selected weights in a run's folder."""
    networks = load_weights(folder / "selected" / f"{selection}.pt")["networks"]
    return {f"{n}.{k}": v for n, state in networks.items() for k, v in state.items()}


def assert_same_weights(left: Path, right: Path, selection: str = "last") -> None:
    """Bit for bit, of two run folders."""
    ours, theirs = weights(left, selection), weights(right, selection)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []
