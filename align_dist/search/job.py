"""What every trial of a search is told, and what it tells Ray Tune. Imported by Ray's workers: light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from align_dist.search.objective import value_of
from align_dist.search.outcome import Report
from align_dist.search.space import SearchConfig


@dataclass(frozen=True)
class Job:
    """What all trials of a search have in common, as plain values. cwd: what relative paths are relative to."""

    search: dict[str, Any]
    cwd: str


class TrialLost(Exception):
    """A trial's process was killed or lost a rank: Ray starts the trial again, from its last checkpoint."""


def metrics_of(search: SearchConfig, report: Report) -> dict[str, float]:
    """A report as schedulers see it."""
    objective = value_of(search.objective, report.metrics)
    return {**report.metrics, "objective": objective, "guided_epochs": report.guided_epochs, "step": report.step}
