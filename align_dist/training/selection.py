"""Model selection: which weights of a run are kept, by name (paper.md section 5.3).

validation: the best accuracy on the source domains' validation part; ties go to the later weights.
oracle: the best accuracy on the target domains' validation part, which no one has in earnest.
last: the end of the run.
The first two choose after warm-up, for every method alike: see `Schedule.selectable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_dist.parallel.engine import Engine
from align_dist.parallel.group import Group
from align_dist.training.checkpoint import load_weights, save_weights


@dataclass(frozen=True)
class Best:
    """The best accuracy so far, and the step it was seen at."""

    accuracy: float = -1.0
    step: int = -1


def selected_path(folder: Path, selection: str) -> Path:
    """Where the weights of a selection lie."""
    return folder / f"{selection}.pt"


def keep_better(
    folder: Path, selection: str, best: Best, accuracy: float, step: int, networks: dict[str, Engine], group: Group
) -> Best:
    """Saves the networks when `accuracy` is at least the best so far; returns the best of both. Collective."""
    if accuracy < best.accuracy:
        return best
    keep(folder, selection, step, networks, group)
    return Best(accuracy, step)


def keep(folder: Path, selection: str, step: int, networks: dict[str, Engine], group: Group) -> None:
    """Saves the networks' weights under the name of a selection. Collective."""
    state: dict[str, Any] = {name: engine.weights() for name, engine in networks.items()}
    group.first(lambda: save_weights(selected_path(folder, selection), {"step": step, "networks": state}))


def load_selected(folder: Path, selection: str) -> dict[str, Any]:
    """`step` and `networks` of a selection. Raises CheckpointError when there is none."""
    remedy = f"nothing else holds these weights: delete {folder.parent} and train the run again"
    return load_weights(selected_path(folder, selection), remedy)
