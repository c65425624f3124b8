"""The tables of a grid, from the results of its finished runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from align_dist.cluster.grid import Cell
from align_dist.errors import DataError
from align_dist.report.grids import Place, grid_tables
from align_dist.report.render import rendered
from align_dist.report.rows import read_run
from align_dist.report.tables import SELECTIONS, usual_tables
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import Row, variant_of


def collect(cells: Sequence[Cell], form: str) -> None:
    """Print every table of a grid under every model selection, with the missing cells. Raises DataError as `_rows`."""
    rows = _rows(cells)
    expected = [Place(cell.domain, cell.config.method, variant_of(cell.config), cell.config.seed) for cell in cells]
    for selection in (name for name in SELECTIONS if any(row.selection == name for row in rows)):
        print(rendered(grid_tables(rows, expected, cells[0].config.protocol.kind, selection), form))


def collect_study(cells: Sequence[Cell], form: str) -> None:
    """Print the tables of `align-dist report` of a study, then the missing cells. Raises DataError as `_rows`."""
    print(rendered(usual_tables(_rows(cells), cells[0].config.evaluation.selections[0]), form))
    for cell in cells:
        if not _is_measured(cell):
            print(f"missing: {cell.name}", file=sys.stderr)


def _rows(cells: Sequence[Cell]) -> list[Row]:
    """Rows of the finished cells that were measured as the grid asks. Raises DataError where there are none."""
    rows = [row for cell in cells if _is_measured(cell) for row in read_run(cell.config.folder).rows]
    if not rows:
        parent = cells[0].config.folder.parent
        raise DataError(f"{parent}: none of the {len(cells)} runs is finished and measured as asked; see --watch-only")
    return rows


def _is_measured(cell: Cell) -> bool:
    return not RunFolder(cell.config.folder).measured_otherwise(cell.config.evaluation)
