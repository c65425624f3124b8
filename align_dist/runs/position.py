"""The position of a run: all that a checkpoint holds besides the networks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from align_dist.runs.selection import Best, Weights


@dataclass
class Position:
    """step: finished steps. validation, oracle, worst_group: the best of each rule so far. selected: the weights that
    selections have chosen so far, by name, on the first rank. unwritten: those of them that are in no checkpoint yet.
    """

    step: int = 0
    validation: Best = field(default_factory=Best)
    oracle: Best = field(default_factory=Best)
    worst_group: Best = field(default_factory=Best)
    selected: dict[str, Weights] = field(default_factory=dict)
    unwritten: set[str] = field(default_factory=set)

    @property
    def selected_steps(self) -> dict[str, int]:
        """The step of each selection's weights; empty on other ranks than the first."""
        return {name: int(weights["step"]) for name, weights in self.selected.items()}


def checkpoint_of(identity: str, state: dict[str, Any], position: Position) -> dict[str, Any]:
    """The content of a run's checkpoint. identity: the run's. state: engines' state dicts, `networks`, and `method`."""
    values = {
        "step": position.step,
        "validation": asdict(position.validation),
        "oracle": asdict(position.oracle),
        "validation_worst_group": asdict(position.worst_group),
    }
    return {"identity": identity, **state, "position": values, "selected": position.selected}


def position_in(checkpoint: dict[str, Any], selected: dict[str, Weights]) -> Position:
    """The position that a checkpoint tells. selected: the weights of its selections, which only one rank keeps."""
    values = checkpoint["position"]
    # Older checkpoints lack the choice by worst group.
    worst_group = Best(**values.get("validation_worst_group", {}))
    return Position(values["step"], Best(**values["validation"]), Best(**values["oracle"]), worst_group, selected)
