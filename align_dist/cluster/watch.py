"""The live table of a grid: a row for each cell, and the last lines of those that failed."""

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

SHOWN = 5  # last lines of a failed cell's log


def show_grid(cells: Sequence[Cell], found: Sequence[CellStatus]) -> None:
    """Prints the table, and what the failed cells have said last."""
    print_table(_lines(cells, found))
    _show_failures(cells, found)


def watch_grid(cells: Sequence[Cell], every: float) -> None:
    """Shows the table until no cell runs or waits, then what the failed ones have said last."""
    watch(lambda: _lines(cells, statuses(cells)), every)
    _show_failures(cells, statuses(cells))


@contextmanager
def looking(cells: Sequence[Cell], shown: bool) -> Iterator[Callable[[], None]]:
    """While inside, a function that draws the table as things stand, or nothing unless `shown`."""
    if not shown:
        yield lambda: None
        return
    with LiveTable() as table:
        yield lambda: table.show(_lines(cells, statuses(cells)))


def _lines(cells: Sequence[Cell], found: Sequence[CellStatus]) -> list[Line]:
    return [_line(cell, status) for cell, status in zip(cells, found, strict=True)]


def _line(cell: Cell, status: CellStatus) -> Line:
    job = status.submission.job if status.submission else ""
    names = {"domain": cell.domain, "method": cell.method, "seed": str(cell.seed), "job": job}
    return Line(names, status, progress_of(cell.config.folder))


def _show_failures(cells: Sequence[Cell], found: Sequence[CellStatus]) -> None:
    for cell, status in zip(cells, found, strict=True):
        if status.state is not State.FAILED:
            continue
        print(f"{cell.name} failed: {status.reason}", file=sys.stderr)
        if status.submission:
            log = Path(status.submission.log)
            print(f"  {log}", *(f"  | {line}" for line in last_lines(log, SHOWN)), sep="\n", file=sys.stderr)
