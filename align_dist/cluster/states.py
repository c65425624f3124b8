"""The status of a cell, from its run's folder and the queue alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align_dist.cluster.jobs import Submission, submissions_of
from align_dist.cluster.queue import Queue, read_queue
from align_dist.config import EvaluationConfig, RunConfig
from align_dist.files import last_lines
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State, Status, status_of, unfinished_status


@dataclass(frozen=True)
class CellStatus(Status):
    """A cell's status. reason: from the run or from Slurm. submission: the latest one, or None."""

    submission: Submission | None


def cell_statuses(configs: Sequence[RunConfig]) -> list[CellStatus]:
    """The status of each run. Raises MachineError where the queue cannot be read."""
    histories = [submissions_of(config.folder) for config in configs]
    queue = read_queue([history[-1] for history in histories if history])
    return [
        cell_status(config.folder, history, queue, config.evaluation)
        for config, history in zip(configs, histories, strict=True)
    ]


def cell_status(path: Path, history: Sequence[Submission], queue: Queue, evaluation: EvaluationConfig) -> CellStatus:
    """The status of a run, given its submissions and the jobs that exist.

    evaluation: the measures that the grid asks for. A finished run with other measures is to be submitted again.
    """
    latest = history[-1] if history else None
    status = _status(RunFolder(path), latest, queue, evaluation)
    return CellStatus(status.state, status.reason, latest)


def _status(folder: RunFolder, latest: Submission | None, queue: Queue, evaluation: EvaluationConfig) -> Status:
    is_finished = folder.is_finished
    differences = folder.measured_otherwise(evaluation) if is_finished else []
    if is_finished and not differences:
        return Status(State.FINISHED, "")
    queued = queue.get((latest.cluster, latest.job)) if latest else None
    if queued is not None:
        return Status(State.WAITING, queued.reason) if queued.waiting else Status(State.RUNNING, "")
    status = status_of(folder)
    if status.state is State.RUNNING:
        return Status(State.RUNNING, "started by hand or by another submission")
    if status.state is State.FINISHED:
        if folder.ending() is not None:
            return unfinished_status(folder)
        return Status(State.TRAINED, f"measured with {'; '.join(differences)}")
    if status.state is State.NEW and latest:
        log = Path(latest.log)
        return Status(State.FAILED, last_line(log)) if log.exists() else Status(State.NEW, "cancelled before it began")
    return status


def last_line(log: Path) -> str:
    """The last line of a log; for an empty log, a message that says so."""
    return (last_lines(log, 1) or [f"ended without a message, see {log}"])[0]
