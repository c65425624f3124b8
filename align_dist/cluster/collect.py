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
    """Prints every table under every model selection, of cells that are done and were measured as the grid asks for.

    Raises DataError while there is none.
    """
    configs = [cell.config for cell in cells]
    done = [config.folder for config in configs if not RunFolder(config.folder).measured_otherwise(config.evaluation)]
    rows = [row for folder in done for row in read_run(folder).rows]
    if not rows:
        place = cells[0].config.folder.parent
        raise DataError(
            f"{place}: none of the {len(cells)} runs is done and measured as asked; --watch-only shows where they are"
        )
    wanted = [Place(cell.domain, cell.method, variant_of(cell.config), cell.seed) for cell in cells]
    for selection in (name for name in SELECTIONS if any(row.selection == name for row in rows)):
        print(rendered(grid_tables(rows, wanted, cells[0].config.protocol.kind, selection), form))
