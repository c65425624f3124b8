"""The live table of a grid: a row for each cell, and the last log lines of failed cells."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from align_dist.cluster.grid import Cell
from align_dist.cluster.states import CellStatus
from align_dist.cluster.submission import statuses
from align_dist.files import last_lines
from align_dist.report.live import Line, LiveTable, print_table, watch
from align_dist.runs.progress import progress_of
from align_dist.runs.status import State

LOG_LINES = 5  # of a failed cell, from the log's end


def show_grid(cells: Sequence[Cell], states: Sequence[CellStatus]) -> None:
    """Print the table, and the last log lines of failed cells."""
    print_table(_lines(cells, states))
    _show_failures(cells, states)


def watch_grid(cells: Sequence[Cell], every: float) -> None:
    """Show the table until no cell runs or waits, then the last log lines of failed cells."""
    watch(lambda: _lines(cells, statuses(cells)), every)
    _show_failures(cells, statuses(cells))


@contextmanager
def live_grid(cells: Sequence[Cell], is_shown: bool) -> Iterator[Callable[[], None]]:
    """Yield a function that draws the current table; without `is_shown`, a function that does nothing."""
    if not is_shown:
        yield lambda: None
        return
    with LiveTable() as table:
        yield lambda: table.show(_lines(cells, statuses(cells)))


def _lines(cells: Sequence[Cell], states: Sequence[CellStatus]) -> list[Line]:
    return [_line(cell, status) for cell, status in zip(cells, states, strict=True)]


def _line(cell: Cell, status: CellStatus) -> Line:
    job = status.submission.job if status.submission else ""
    names = {"domain": cell.domain, "method": cell.label, "seed": str(cell.config.seed), "job": job}
    return Line(names, status, progress_of(cell.config.folder))


def _show_failures(cells: Sequence[Cell], states: Sequence[CellStatus]) -> None:
    for cell, status in zip(cells, states, strict=True):
        if status.state is not State.FAILED:
            continue
        print(f"{cell.name} failed: {status.reason}", file=sys.stderr)
        if status.submission:
            log = Path(status.submission.log)
            print(f"  {log}", *(f"  | {line}" for line in last_lines(log, LOG_LINES)), sep="\n", file=sys.stderr)
