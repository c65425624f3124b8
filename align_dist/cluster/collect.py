"""The tables of a grid, from the results of its finished runs."""

from __future__ import annotations

from collections.abc import Sequence

from align_dist.cluster.grid import Cell
from align_dist.errors import DataError
from align_dist.report import render
from align_dist.report.grids import Place, grid_tables
from align_dist.report.rows import read_run
from align_dist.report.tables import SELECTIONS

RENDERERS = {
    "text": render.to_text,
    "markdown": render.to_markdown,
    "latex": render.to_latex,
    "csv": render.to_csv,
}


def collect(cells: Sequence[Cell], form: str) -> None:
    """Prints every table under every model selection. Raises DataError while no cell is done."""
    runs = [read_run(cell.config.folder) for cell in cells]
    rows = [row for run in runs if run.done for row in run.rows]
    if not rows:
        place = cells[0].config.folder.parent
        raise DataError(f"{place}: none of the {len(cells)} runs is done; --watch-only shows where they are")
    wanted = [Place(cell.domain, cell.method, cell.config.variant, cell.seed) for cell in cells]
    for selection in (name for name in SELECTIONS if any(row.selection == name for row in rows)):
        for table in grid_tables(rows, wanted, cells[0].config.protocol.kind, selection):
            if form == "csv":
                print(f"# {table.title}")
            print(RENDERERS[form](table))
