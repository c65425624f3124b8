"""What is known of a trial, from its run folder alone: the only state that a search goes on from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from align_dist.config import RunConfig
from align_dist.errors import CheckpointError, ConfigError, LostRankError, NonFiniteError, Preempted
from align_dist.files import read_json, write_text
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import latest_metrics
from align_dist.schema.distributions import Value
from align_dist.search.objective import selected
from align_dist.search.outcome import OUTCOME, Report, read_outcome, read_reports

State = Literal["waiting", "interrupted", "stopped", "failed", "finished"]
SUGGESTED, STOPPED = "suggested.json", "stopped.json"
# Another start would end the same way.
FINAL_CODES = (ConfigError.exit_code, NonFiniteError.exit_code)
# What another start gets over at once; so it does a signal that killed.
PASSING_CODES = (LostRankError.exit_code, Preempted.exit_code)


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
class Standing:
    """reason: of an early end. steps: trained so far, with those of its trunk. reports: so far, by step. chosen: of the
    weights that selection keeps, None before guidance. over: whether the search does not start it again.
    """

    state: State
    reason: str
    steps: int
    reports: Sequence[Report]
    chosen: Report | None
    over: bool = False


def standing_of(folder: Path) -> Standing:
    """Where a trial is. Nobody has to be at work on it."""
    reports = read_reports(folder)
    chosen = selected(reports) if reports else None
    steps = steps_in(folder)
    if (folder / OUTCOME).exists():
        outcome = _outcome_of(folder)
        if outcome is not None:
            return Standing("finished", "", max(steps, outcome.step), reports, outcome, True)
    stop, ending = read_json(folder / STOPPED), RunFolder(folder).ending()
    if stop:
        return Standing("stopped", str(stop.get("reason", "")), steps, reports, chosen, True)
    if ending is not None:
        state: State = "interrupted" if ending.exit_code in PASSING_CODES else "failed"
        return Standing(state, ending.reason, steps, reports, chosen, ending.exit_code in FINAL_CODES)
    begun = (folder / "config.yaml").exists() or any((folder / "checkpoints").glob("*.ckpt"))
    return Standing("interrupted" if begun else "waiting", "", steps, reports, chosen)


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
