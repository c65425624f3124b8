"""The tables of a grid, from the results of its finished runs."""

from __future__ import annotations

from collections.abc import Sequence

from align_dist.cluster.grid import Cell
from align_dist.errors import DataError
from align_dist.report.grids import Place, grid_tables
from align_dist.report.render import rendered
from align_dist.report.rows import read_run
from align_dist.report.tables import SELECTIONS
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import variant_of


def collect(cells: Sequence[Cell], form: str) -> None:
    """Print every table under every model selection, from the finished cells that were measured as the grid asks.

    Raises DataError where there are none.
    """
    configs = [cell.config for cell in cells]
    measured = [
        config.folder for config in configs if not RunFolder(config.folder).measured_otherwise(config.evaluation)
    ]
    rows = [row for folder in measured for row in read_run(folder).rows]
    if not rows:
        parent = cells[0].config.folder.parent
        raise DataError(f"{parent}: none of the {len(cells)} runs is finished and measured as asked; see --watch-only")
    expected = [Place(cell.domain, cell.method, variant_of(cell.config), cell.seed) for cell in cells]
    for selection in (name for name in SELECTIONS if any(row.selection == name for row in rows)):
        print(rendered(grid_tables(rows, expected, cells[0].config.protocol.kind, selection), form))
