"""How a search goes: a table on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State
from align_dist.search.folders import Trial, TrialStatus, steps_in, trial_status
from align_dist.search.objective import value_of
from align_dist.search.space import SearchConfig

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from align_dist.search.trunk import Branch

EVERY = 2.0  # seconds


@dataclass(frozen=True)
class Line:
    """A trial as people see it. best: its objective so far."""

    trial: Trial
    state: str
    step: int
    length: int
    best: float | None
    origin: str
    reason: str


class Board(Protocol):
    def update(self, trials: Sequence[Trial], running: Collection[int]) -> None:
        """Shows the trials, those with the given numbers being at work."""
        ...

    def close(self) -> None:
        """Shows nothing more."""
        ...


class Lines:
    """Reads what is to be shown from the run folders, seldom."""

    def __init__(self, search: SearchConfig, branch: Callable[[Trial], Branch], length: Callable[[Trial], int]) -> None:
        self._search, self._branch, self._length = search, branch, length
        self._over: dict[int, Line] = {}
        self._fixed: dict[int, tuple[Branch, int]] = {}

    def of(self, trial: Trial, running: bool) -> Line:
        if trial.number not in self._fixed:
            self._fixed[trial.number] = self._branch(trial), self._length(trial)
        if trial.number not in self._over:
            status = trial_status(trial.folder)
            line = self._line(trial, status, running)
            if not status.over or running:
                return line
            self._over[trial.number] = line
        return self._over[trial.number]

    def _line(self, trial: Trial, status: TrialStatus, running: bool) -> Line:
        branch, length = self._fixed[trial.number]
        state, step, reason = str(status.state), status.steps, status.reason
        if running and not status.over:
            warm = step <= branch.step and not RunFolder(trial.folder).has_checkpoint and branch.step
            state, step = ("warm-up", steps_in(branch.trunk)) if warm else (str(State.RUNNING), max(step, branch.step))
            reason = ""
        best = None if status.chosen is None else value_of(self._search.objective, status.chosen.metrics)
        return Line(trial, state, step, length, best, trunk_name(branch), reason)


def trunk_name(branch: Branch) -> str:
    """The end of a trunk's id, and where the trial leaves it."""
    return f"{branch.trunk.name.rpartition('-')[2]}@{branch.step}" if branch.step else "–"


class LogBoard:
    """A line whenever a trial's state changes."""

    def __init__(self, lines: Lines) -> None:
        self._lines, self._told, self._next = lines, dict[int, str](), 0.0

    def update(self, trials: Sequence[Trial], running: Collection[int]) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        self.show(trials, running)

    def show(self, trials: Sequence[Trial], running: Collection[int]) -> None:
        """What has changed since the last time."""
        for trial in list(trials):
            line = self._lines.of(trial, trial.number in running)
            before = self._told.get(trial.number, str(State.NEW))
            self._told[trial.number] = line.state
            if line.state != before:
                print(f"trial {trial.number}: {in_words(line)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is open."""


def in_words(line: Line) -> str:
    """A line of a log."""
    best = "" if line.best is None else f", best {line.best:.4f}"
    why = f" ({line.reason})" if line.reason else ""
    shown = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in line.trial.values.items())
    shown += f" seed={line.trial.config.seed}" if line.trial.confirms is not None else ""
    return f"{line.state} at step {line.step}/{line.length}{best}: {shown}, from {line.origin}{why}"


class TableBoard:
    """A table that is redrawn in place."""

    def __init__(self, lines: Lines) -> None:
        self._lines, self._live, self._next = lines, _live(), 0.0

    def update(self, trials: Sequence[Trial], running: Collection[int]) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        shown = [self._lines.of(trial, trial.number in running) for trial in list(trials)]
        self._live.update(table_of(shown), refresh=True)

    def close(self) -> None:
        self._live.stop()


def _live() -> Live:
    from rich.console import Console
    from rich.live import Live

    live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
    live.start()
    return live


def table_of(lines: Sequence[Line]) -> Table:
    """The trials as a table for a terminal: those at work first, then the best, for a screen may hold no more."""
    from rich.table import Table

    lines = sorted(lines, key=lambda line: (_ORDER.get(line.state, 1), -(line.best or 0.0), line.trial.number))

    table = Table(box=None, header_style="bold", pad_edge=False)
    keys = list(dict.fromkeys(key for line in lines for key in line.trial.values))
    keys.sort(key=lambda key: not key.rpartition(".")[2].startswith("lambda"))
    for name in ("trial", "state", "step", *(key.rpartition(".")[2] for key in keys), "best", "from"):
        table.add_column(name, justify="left" if name in ("state", "from") else "right")
    best = max((line.best for line in lines if line.best is not None), default=None)
    for line in lines:
        values = [str(line.trial.values.get(key, "")) for key in keys]
        objective = "" if line.best is None else f"{line.best:.4f}"
        style = "green" if line.best is not None and line.best == best else _STYLES.get(line.state, "")
        step = f"{line.step}/{line.length}"
        table.add_row(str(line.trial.number), line.state, step, *values, objective, line.origin, style=style)
    return table


_ORDER: dict[str, int] = {State.RUNNING: 0, "warm-up": 0, State.NEW: 2}
_STYLES: dict[str, str] = {State.NEW: "dim", State.STOPPED: "dim", State.FAILED: "red"}


def make_board(lines: Lines) -> Board:
    """What fits where standard error goes."""
    return TableBoard(lines) if sys.stderr.isatty() else LogBoard(lines)
