"""Progress of a run: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY = 10.0


class ProgressDisplay(Protocol):
    def advance(self, step: int) -> None:
        """`step` steps are done."""
        ...

    def tell(self, step: int, values: dict[str, float]) -> None:
        """Values worth a line."""
        ...

    def say(self, line: str) -> None:
        """A line of its own, always shown."""
        ...


class _Lines:
    """One line at most every ten seconds, and the last one."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._start, self._first, self._told = name, total, time.monotonic(), -1, 0.0

    def advance(self, step: int) -> None:
        if self._first < 0:
            self._first, self._start = step, time.monotonic()

    def tell(self, step: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self._told < LINE_EVERY and step < self._total:
            return
        self._told = now
        rate = (step - self._first) / max(now - self._start, 1e-9)
        left = f", {(self._total - step) / rate:.0f} s left" if rate > 0 else ""
        shown = " ".join(f"{key} {value:.3f}" for key, value in values.items())
        self.say(f"step {step}/{self._total}{left}: {shown}")

    def say(self, line: str) -> None:
        print(f"{self._name}: {line}", file=sys.stderr, flush=True)


class _Bar:
    def __init__(self, name: str, total: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, desc=name, unit="step", dynamic_ncols=True)

    def advance(self, step: int) -> None:
        self._bar.update(step - self._bar.n)

    def tell(self, step: int, values: dict[str, float]) -> None:
        self._bar.set_postfix({key: f"{value:.3f}" for key, value in values.items()})

    def say(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


class _Silence:
    """The progress of ranks other than the first: nothing."""

    def advance(self, step: int) -> None: ...

    def tell(self, step: int, values: dict[str, float]) -> None: ...

    def say(self, line: str) -> None: ...


@contextmanager
def training_progress(name: str, total: int, shown: bool = True) -> Iterator[ProgressDisplay]:
    """A progress display for `total` steps of the run `name`."""
    if not shown:
        yield _Silence()
        return
    if not sys.stderr.isatty():
        yield _Lines(name, total)
        return
    bar = _Bar(name, total)
    try:
        yield bar
    finally:
        bar.close()
