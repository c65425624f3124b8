"""What a trial says of itself: reports while it trains, and its outcome. Light: Ray's processes import no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_dist.errors import CheckpointError
from align_dist.files import read_records

OUTCOME = "trial.json"


@dataclass(frozen=True)
class Report:
    """step: finished steps. guided_epochs: since guidance began, what a scheduler may count. metrics: on the
    source domains' validation part: accuracy, and the faithfulness of explanations where it was asked for.
    """

    step: int
    guided_epochs: float
    metrics: dict[str, float]


def read_reports(folder: Path) -> list[Report]:
    """What a trial has reported, by step, each step once; a torn or damaged line is not there."""
    found = {made.step: made for made in read_records(folder / "reports.jsonl", Report)}
    return [found[step] for step in sorted(found)]


def read_outcome(folder: Path) -> Report:
    """The report of a finished trial's selected weights. Raises CheckpointError for an unfinished one."""
    try:
        values: dict[str, Any] = json.loads((folder / OUTCOME).read_text("utf-8"))
        return Report(**values)
    except (OSError, ValueError, TypeError):
        raise CheckpointError(f"{folder}: no readable {OUTCOME}; run the search again, it goes on there") from None
