"""Where a cell stands, read from its run's folder and the queue, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from align_dist.cluster.jobs import Submission, submissions_of
from align_dist.cluster.queue import Queue, QueuedJob, read_queue
from align_dist.config import EvaluationConfig, RunConfig
from align_dist.errors import Preempted
from align_dist.files import last_lines
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import IMAGES_PER_SECOND, latest_metrics
from align_dist.schema.values import to_steps


class State(str, Enum):
    """new: to be submitted. stopped: saved and left, goes on when submitted again. failed: only with `--retry`."""

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Standing:
    """note: a reason of the run's or of Slurm's, one line. submission: the latest, if there was any."""

    state: State
    note: str = ""
    submission: Submission | None = None


@dataclass(frozen=True)
class Pace:
    """How far a run is: of the latest line of its metrics. seconds_left: None until it can be told."""

    step: int
    epoch: float
    images_per_second: float | None
    seconds_left: float | None


def standings_of(configs: Sequence[RunConfig]) -> list[Standing]:
    """How each run stands. Raises MachineError where the queue cannot be read."""
    histories = [submissions_of(config.folder) for config in configs]
    queue = read_queue([history[-1] for history in histories if history])
    return [
        standing_of(config.folder, history, queue, config.evaluation)
        for config, history in zip(configs, histories, strict=True)
    ]


def standing_of(path: Path, history: Sequence[Submission], queue: Queue, asked: EvaluationConfig) -> Standing:
    """How a run stands, given its submissions and the jobs that exist.

    asked: how it is to be measured. A finished run that was measured otherwise is to be submitted again.
    """
    folder, latest = RunFolder(path), history[-1] if history else None
    done = folder.done.exists()
    otherwise = folder.measured_otherwise(asked) if done else []
    if done and not otherwise:
        return Standing(State.DONE, submission=latest)
    queued = queue.get((latest.cluster, latest.job)) if latest else None
    if queued is not None:
        return Standing(State.WAITING if queued.waiting else State.RUNNING, _note_of(queued), latest)
    if folder.is_held():
        return Standing(State.RUNNING, "started by hand or by another submission", latest)
    ending = folder.ending()
    if ending is not None:
        state = State.STOPPED if ending.exit_code == Preempted.exit_code else State.FAILED
        return Standing(state, ending.reason, latest)
    if otherwise:
        return Standing(State.STOPPED, f"measured with {'; '.join(otherwise)}", latest)
    if latest and Path(latest.log).exists():
        return Standing(State.FAILED, last_line(Path(latest.log)), latest)
    if latest:
        return Standing(State.NEW, "cancelled before it began", latest)
    begun = (path / "config.yaml").exists()
    return Standing(State.STOPPED, "left without a word") if begun else Standing(State.NEW)


def _note_of(queued: QueuedJob) -> str:
    return queued.reason if queued.waiting else ""


def last_line(log: Path) -> str:
    """The last line of a log, or that it has none."""
    return (last_lines(log, 1) or [f"ended without a word, see {log}"])[0]


def pace_of(config: RunConfig) -> Pace | None:
    """How far a run is and how fast, from its metrics; None before the first line."""
    latest = latest_metrics(RunFolder(config.folder).metrics)
    if not latest:
        return None
    step, epoch, _ = latest[-1]
    rates = [record.values[IMAGES_PER_SECOND] for record in latest if record.values.get(IMAGES_PER_SECOND)]
    length = to_steps(config.training.length, step / epoch) if epoch else step
    rate = rates[-1] if rates else None
    left = (length - step) * config.data.batch_size / rate if rate else None
    return Pace(step, epoch, rate, left)
