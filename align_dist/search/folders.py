"""What is known of a trial, from its run folder alone: the only state that a search goes on from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align_dist.config import RunConfig
from align_dist.errors import CheckpointError
from align_dist.files import read_json, write_text
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import latest_metrics
from align_dist.runs.status import State, Status, unfinished_status
from align_dist.schema.distributions import Value
from align_dist.search.objective import selected
from align_dist.search.outcome import Report, read_outcome, read_reports

SUGGESTED, STOPPED = "suggested.json", "stopped.json"


@dataclass(frozen=True)
class Trial:
    """A trial: its number in the search, what was drawn for it, and the run that it is.

    confirms: the number of the trial that this is on another seed.
    """

    number: int
    values: dict[str, Value]
    config: RunConfig
    confirms: int | None = None

    @property
    def folder(self) -> Path:
        return self.config.folder


@dataclass(frozen=True)
class TrialStatus(Status):
    """A trial's status. finished: has an outcome. steps: trained so far, with those of its trunk. reports: so far, by
    step. chosen: of the weights that selection keeps, None before guidance. over: whether the search does not start
    the trial again.
    """

    steps: int
    reports: Sequence[Report]
    chosen: Report | None
    over: bool


def trial_status(path: Path) -> TrialStatus:
    """How a trial stands. Nobody has to be at work on it."""
    reports, steps, folder = read_reports(path), steps_in(path), RunFolder(path)
    outcome, stop = _outcome_of(path), read_json(path / STOPPED)
    if outcome is not None:
        return TrialStatus(State.FINISHED, "", max(steps, outcome.step), reports, outcome, True)
    chosen = selected(reports) if reports else None
    if stop:
        return TrialStatus(State.STOPPED, str(stop.get("reason", "")), steps, reports, chosen, True)
    status, ending = unfinished_status(folder), folder.ending()
    over = ending is not None and ending.error.permanent
    return TrialStatus(status.state, status.reason, steps, reports, chosen, over)


def _outcome_of(folder: Path) -> Report | None:
    try:
        return read_outcome(folder)
    except CheckpointError:
        return None


def steps_in(folder: Path) -> int:
    """The last step in metrics.jsonl; 0 before the first."""
    latest = latest_metrics(RunFolder(folder).metrics)
    return latest[-1].step if latest else 0


def mark_stopped(folder: Path, reason: str) -> None:
    """Puts it on record that a scheduler stopped the trial, which is then not started again."""
    write_text(folder / STOPPED, json.dumps({"reason": reason}) + "\n")


def mark_suggested(trial: Trial) -> None:
    """Puts a trial's number and values into its folder, once; a trial on another seed was not chosen anew."""
    path = trial.folder / SUGGESTED
    if trial.confirms is None and not path.exists():
        write_text(path, json.dumps({"number": trial.number, "values": trial.values}) + "\n")


def read_suggested(experiment: Path) -> list[tuple[int, dict[str, Value]]]:
    """Numbers and values of the trials that a search has begun, by number."""
    found = [read_json(path) for path in experiment.glob(f"*/{SUGGESTED}")]
    return sorted(((made["number"], made["values"]) for made in found if made), key=lambda made: made[0])
