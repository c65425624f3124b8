"""How a run stands, in the words that searches, grids and reports share, read from the run's folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from align_dist.runs.folder import RunFolder


class State(str, Enum):
    """new: nothing has begun. waiting: in a cluster's queue. running: a process trains the run. interrupted: goes on
    when started again, with nothing mended. stopped: ended early by a scheduler of a search, for good. failed: somebody
    has to look why. finished: has all that the run was started for.
    """

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
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
    """How a run stands that no process trains."""
    return Status(State.FINISHED, "") if folder.done.exists() else unfinished_status(folder)


def unfinished_status(folder: RunFolder) -> Status:
    """How a run stands that no process trains and that is not finished: new, interrupted or failed."""
    ending = folder.ending()
    if ending is not None:
        return Status(State.INTERRUPTED if ending.error.resumable else State.FAILED, ending.reason)
    if folder.description.exists() or folder.has_checkpoint:
        return Status(State.INTERRUPTED, "left without a word")
    return Status(State.NEW, "")
