"""Signals become a flag; the loop acts on it at the next step boundary.

Saving inside a handler deadlocks or tears files: the handler only takes note.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from align_dist.errors import Preempted
from align_dist.parallel.group import Group

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """A request to stop, with its cause. A second Ctrl-C interrupts at once.

    name: what the ranks have agreed to stop for; a signal that only this rank has seen is not in it yet.
    deadline: seconds since 1970 from which on the time limit asks for a stop.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self.name: str | None = None
        self._noted: str | None = None
        self._deadline = deadline
        self._pending: Callable[[], bool] | None = None

    def agreed(self, group: Group) -> bool:
        """Return whether any rank was asked to stop; all ranks then know the lowest one's reason. Collective."""
        return self._settle(group, group.any(self._is_requested()))

    def agreed_lately(self, group: Group) -> bool:
        """`agreed`, begun at one call and read at the next, so that no step waits for the slowest rank. Collective.

        With one rank it is `agreed`.
        """
        answer, self._pending = self._pending, group.start_any(self._is_requested())
        if group.world_size == 1:
            answer = self._pending
        return self._settle(group, answer is not None and answer())

    def _is_requested(self) -> bool:
        if self._noted is None and time.time() >= self._deadline:
            self._noted = "time limit"
        return self._noted is not None

    def _settle(self, group: Group, is_requested: bool) -> bool:
        if is_requested and self.name is None:
            self.name = next(name for name in group.gather(self._noted) if name)
        return self.name is not None

    def note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._noted == "SIGINT":
            raise KeyboardInterrupt
        self._noted = signal.Signals(number).name


def deadline_of(environment: Mapping[str, str], grace: float) -> float:
    """The time to stop before a Slurm job's end, in seconds since 1970; infinity where there is no limit."""
    end = environment.get("SLURM_JOB_END_TIME", "")
    return float(end) - grace if end.isdigit() else math.inf


@contextmanager
def noticing_signals(deadline: float = math.inf) -> Iterator[StopRequest]:
    """Notes SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 while inside, then puts the old handlers back.

    Once a stop is agreed on, signals that would kill are ignored for good: `scancel` tells the job and then its step,
    and what has saved is to end with its own exit code.
    """
    request = StopRequest(deadline)
    before = {number: signal.signal(number, request.note) for number in STOPPING}
    try:
        yield request
    finally:
        for number, handler in before.items():
            fatal = request.name is not None and handler == signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if fatal else handler)


def leave_if_asked(request: StopRequest, folder: Path, step: int) -> None:
    """Raise Preempted when something asked for a stop. Called where everything is saved and agreed on."""
    if request.name:
        raise Preempted(
            f"{request.name}: saved at step {step} in {folder}; run the same command again to resume", request.name
        )
