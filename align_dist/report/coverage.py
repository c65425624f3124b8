"""Coverage of a grid: methods by seeds, and the missing cells."""

from __future__ import annotations

from collections.abc import Sequence

from align_dist.config import load_config
from align_dist.errors import UserError
from align_dist.report.render import Table
from align_dist.report.rows import Run
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import Group, group_of, label_of, variant_of

FINISHED, MISSING = "\N{CHECK MARK}", "missing"
Cell = tuple[Group, str, int]  # what is compared, label, seed


def coverage_table(runs: Sequence[Run]) -> Table | None:
    """One line per method and comparison, one column per seed, of which some run is missing or unfinished; None where
    every method has every seed.
    """
    cells = {cell: FINISHED if run.finished else str(run.status.state) for run in runs if (cell := _cell(run))}
    seeds = sorted({seed for _, _, seed in cells})
    lines = sorted({(group, label) for group, label, _ in cells})
    rows = tuple(
        (label, ", ".join(filter(None, group)), *(cells.get((group, label, seed), MISSING) for seed in seeds))
        for group, label in lines
    )
    gaps = tuple(row for row in rows if set(row[2:]) != {FINISHED})
    if not gaps:
        return None
    return Table("Missing from the grid", ("method", "of", *(f"seed {seed}" for seed in seeds)), gaps, names=2)


def _cell(run: Run) -> Cell | None:
    """The run's cell, from its rows or else its config; None for a folder without either."""
    if run.rows:
        row = run.rows[0]
        return row.group, row.label, row.seed
    try:
        config = load_config(RunFolder(run.folder).description)
    except UserError:
        return None
    return group_of(config), label_of(config.method, variant_of(config)), config.seed
