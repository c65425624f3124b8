"""Status of a run, in the words that searches, grids and reports share, read from the run's folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from align_dist.runs.folder import RunFolder


class State(str, Enum):
    """new: nothing has begun. waiting: in a cluster's queue. running: a process trains the run. interrupted: goes on
    when started again, with nothing mended. trained: to its end, and not measured, or not as asked. stopped: ended
    early by a scheduler of a search, for good. failed: somebody has to look why. finished: trained, measured as asked.
    """

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    TRAINED = "trained"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"

    def __str__(self) -> str:
        """The word itself, as files and tables have it."""
        return self.value


@dataclass(frozen=True)
class Status:
    """A run's state, and the reason in one line where there is one."""

    state: State
    reason: str

    def __str__(self) -> str:
        """Such as `failed (a loss is not finite)`."""
        return f"{self.state} ({self.reason})" if self.reason else str(self.state)


def status_of(folder: RunFolder) -> Status:
    """The state of a run: running while a process holds its folder."""
    if folder.is_locked():
        return Status(State.RUNNING, "")
    if folder.is_finished:
        return Status(State.FINISHED, "")
    if folder.done.exists():
        return Status(State.TRAINED, f"results.jsonl is missing; align-dist evaluate {folder.path} writes it")
    # One that a scheduler stopped has ended early too, and on record.
    is_training_told = folder.ending() is None or folder.stop_reason() is not None
    return training_status(folder) if is_training_told else unfinished_status(folder)


def training_status(folder: RunFolder) -> Status:
    """The status of a training that no process is at, whatever is measured of the run afterwards."""
    if folder.trained_steps() is not None:
        return Status(State.TRAINED, "")
    reason = folder.stop_reason()
    return unfinished_status(folder) if reason is None else Status(State.STOPPED, reason)


def unfinished_status(folder: RunFolder) -> Status:
    """The status of an unfinished run that no process trains: new, interrupted or failed."""
    ending = folder.ending()
    if ending is not None:
        return Status(State.INTERRUPTED if ending.error.resumable else State.FAILED, ending.reason)
    if folder.description.exists() or folder.has_checkpoint:
        return Status(State.INTERRUPTED, "ended without a message: killed, or its machine stopped")
    return Status(State.NEW, "")
