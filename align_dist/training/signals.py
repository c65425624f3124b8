"""Signals become a flag; the loop acts on it at the next step boundary.

Saving inside a handler deadlocks or tears files: the handler only takes note.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from align_dist.errors import Preempted

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """Which signal asked for a stop, if any. A second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.name: str | None = None

    def note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.name == "SIGINT":
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


@contextmanager
def noticing_signals() -> Iterator[StopRequest]:
    """Notes SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 while inside, then puts the old handlers back."""
    request = StopRequest()
    before = {number: signal.signal(number, request.note) for number in STOPPING}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_if_asked(request: StopRequest, folder: Path, step: int) -> None:
    """To be called where everything is saved. Raises Preempted when a signal asked for a stop."""
    if request.name:
        raise Preempted(f"{request.name}: saved at step {step}; the same command resumes {folder}")
