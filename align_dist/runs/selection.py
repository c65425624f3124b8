"""Model selection: which weights of a run are kept, by name.

validation: the best average accuracy on the source domains' validation part; ties go to the later weights.
validation_worst_group: the best accuracy there of the group that fares worst, where the benchmark has groups.
oracle: the best accuracy on the target domains' validation part, which no one has in earnest.
last: the end of the run.
All but the last choose after warm-up, for every method alike: see `Schedule.may_select`. What is chosen is part of the
next checkpoint; the files of selections are copies from the newest one, and written anew where a crash has left others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_dist.errors import CheckpointError
from align_dist.files import remove
from align_dist.parallel.engine import Engine
from align_dist.parallel.group import Group
from align_dist.runs.checkpoint import load_weights, save_weights

# `step`, and `networks`: state dicts by name, on the host.
Weights = dict[str, Any]


@dataclass(frozen=True)
class Best:
    """The best accuracy so far, and the step it was seen at."""

    accuracy: float = -1.0
    step: int = -1


def selected_path(folder: Path, selection: str) -> Path:
    """The path of a selection's weights."""
    return folder / f"{selection}.pt"


def weights_now(step: int, networks: Mapping[str, Engine], group: Group) -> Weights:
    """A copy of the networks' weights on the first rank, nothing on the others. Collective."""
    whole = {name: engine.weights() for name, engine in networks.items()}
    if not group.is_first:
        return {}
    copies = {
        name: {key: value.detach().to("cpu", copy=True) for key, value in state.items()}
        for name, state in whole.items()
    }
    return {"step": step, "networks": copies}


def write_selected(folder: Path, selected: Mapping[str, Weights]) -> None:
    """Write the weights of these selections."""
    for name, weights in selected.items():
        save_weights(selected_path(folder, name), weights)


def restore_selected(folder: Path, selected: Mapping[str, Weights]) -> None:
    """Make the files those of a checkpoint, whatever a start after it has left."""
    for path in folder.glob("*.pt"):
        if path.stem not in selected:
            remove(path)
    write_selected(folder, {name: entry for name, entry in selected.items() if _step_of(folder, name) != entry["step"]})


def _step_of(folder: Path, selection: str) -> int:
    try:
        return int(load_selected(folder, selection)["step"])
    except CheckpointError:
        return -1  # missing or torn


def load_selected(folder: Path, selection: str) -> Weights:
    """`step` and `networks` of a selection. Raises CheckpointError when there is none."""
    path = selected_path(folder, selection)
    remedy = f"nothing else holds these weights: delete {folder.parent} and train the run again"
    others = sorted(other.stem for other in folder.glob("*.pt"))
    if others and not path.exists():  # a misspelt selection must not cost a good run
        remedy = f"there are: {', '.join(others)}; where this one is wanted, train the run again in another folder"
    return load_weights(path, remedy)
