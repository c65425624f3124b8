"""The table of a grid: where each cell stands, how far it is, how fast, how long yet."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from align_dist.cluster.grid import Cell
from align_dist.cluster.states import CellStatus, pace_of
from align_dist.cluster.submission import statuses
from align_dist.files import last_lines
from align_dist.runs.status import State

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLES = {
    State.FINISHED: "green",
    State.RUNNING: "cyan",
    State.WAITING: "yellow",
    State.INTERRUPTED: "magenta",
    State.FAILED: "bold red",
    State.NEW: "dim",
}
ACTIVE = (State.RUNNING, State.WAITING)


def grid_table(cells: Sequence[Cell], found: Sequence[CellStatus]) -> Table:
    """A line for each cell."""
    from rich.markup import escape
    from rich.table import Table

    counts = Counter(status.state for status in found)
    table = Table(title=", ".join(f"{counts[state]} {state}" for state in State if counts[state]))
    for name in ("domain", "method"):
        table.add_column(name)
    for name in ("seed", "state", "job", "epoch", "images/s", "left", "note"):
        table.add_column(name, justify="right" if name in ("seed", "epoch", "images/s", "left") else "left")
    for cell, status in zip(cells, found, strict=True):
        state = f"[{STYLES[status.state]}]{status.state}[/]"
        job = status.submission.job if status.submission else ""
        values = (cell.domain, cell.method, str(cell.seed))
        table.add_row(*map(escape, values), state, job, *_pace(cell, status), escape(status.reason))
    return table


def _pace(cell: Cell, status: CellStatus) -> tuple[str, str, str]:
    pace = pace_of(cell.config)
    if pace is None:
        return "", "", ""
    running = status.state is State.RUNNING
    rate = f"{pace.images_per_second:.0f}" if running and pace.images_per_second else ""
    left = duration(pace.seconds_left) if running and pace.seconds_left is not None else ""
    return f"{pace.epoch:.1f}/{_epochs(cell, pace.step, pace.epoch)}", rate, left


def _epochs(cell: Cell, step: int, epoch: float) -> str:
    count, unit = cell.config.training.length.split()
    if unit == "epochs":
        return count
    return f"{int(count) * epoch / step:.1f}" if step else "?"


def duration(seconds: float) -> str:
    """`2 h 05 min`, `4 min`, `30 s`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def failures(cells: Sequence[Cell], found: Sequence[CellStatus], count: int = 5) -> list[str]:
    """For each failed cell its name, its log and the log's last lines."""
    told = []
    for cell, status in zip(cells, found, strict=True):
        if status.state is State.FAILED:
            told.append(f"{cell.name} failed: {status.reason}")
            if status.submission:
                log = status.submission.log
                told += [f"  {log}", *(f"  | {line}" for line in last_lines(Path(log), count))]
    return told


class Looker:
    """The same table while runs go on in this machine's foreground: in place if asked and on a terminal."""

    def __init__(self, cells: Sequence[Cell], shown: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console()
        self._cells = cells
        self._live = Live(console=console, auto_refresh=False) if shown and console.is_terminal else None

    def __enter__(self) -> Looker:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            self._live.stop()

    def look(self) -> None:
        """Draws the table as things stand."""
        if self._live:
            self._live.update(grid_table(self._cells, statuses(self._cells)), refresh=True)


def _watch_in_log(console: Console, cells: Sequence[Cell], found: list[CellStatus], every: float) -> list[CellStatus]:
    console.print(grid_table(cells, found))
    while any(status.state in ACTIVE for status in found):
        time.sleep(every)
        before, found = found, statuses(cells)
        if [status.state for status in found] != [status.state for status in before]:
            console.print(grid_table(cells, found))
    return found


def watch(cells: Sequence[Cell], every: float) -> None:
    """Shows the table until nothing runs or waits; on a terminal in place, in a log again whenever a state changes."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    found = statuses(cells)
    if not console.is_terminal:
        found = _watch_in_log(Console(width=200), cells, found, every)
    else:
        with Live(grid_table(cells, found), console=console, auto_refresh=False) as live:
            while any(status.state in ACTIVE for status in found):
                time.sleep(every)
                found = statuses(cells)
                live.update(grid_table(cells, found), refresh=True)
    for line in failures(cells, found):
        print(line, file=sys.stderr)
