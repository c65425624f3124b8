"""A paper's tables, filled from runs: own and published numbers in separate rows, never in one cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from align_dist.report.aggregate import Column, Line, SeedValues, lines_of, values_of
from align_dist.report.published import Paper, PaperTable
from align_dist.report.render import MISSING, Table
from align_dist.report.rows import Run
from align_dist.report.tables import LEAVE_ONE_OUT, SELECTIONS, Lines, cell_text, error_note
from align_dist.runs.results import IN_DOMAIN, OUT_OF_DOMAIN, Group, Row

OURS, PUBLISHED = "ours", "published"


class Filling(NamedTuple):
    """The results that fill a table: runs of these protocols, on domains of that role. Results that differ only in
    `merged`, a field of their group, share one row.
    """

    protocols: tuple[str, ...]
    role: str
    merged: str | None


FILLINGS = {
    # single_source trains and tests on its source domain exactly as in_domain does (`data/splits.py`).
    "in_domain": Filling(("in_domain", "single_source"), IN_DOMAIN, "source"),
    "single_source": Filling(("single_source",), OUT_OF_DOMAIN, None),
    "leave_one_out": Filling((LEAVE_ONE_OUT,), OUT_OF_DOMAIN, "target"),
}


class Cell(NamedTuple):
    """A cell's content. domain: empty for the average over the benchmark's domains."""

    benchmark: str
    domain: str
    metric: str


class Grid(NamedTuple):
    """The columns' titles, and blocks of rows: a block's name and its cells, one per column."""

    titles: list[str]
    blocks: list[tuple[str, list[Cell]]]


def paper_tables(rows: Iterable[Row], paper: Paper, selection: str) -> list[Table]:
    """The tables of a paper with at least one result, for one model selection: one per benchmark, or with benchmarks
    side by side, as in the paper. Missing results are marked.

    Raises DataError for two rows of one place.
    """
    results = list(rows)
    tables = []
    for shape in paper.tables:
        parts: dict[tuple[str, str], list[Row]] = {}
        for row in (row for row in results if obstacle(row, shape, selection) is None):
            merged = FILLINGS[shape.protocol].merged
            group = row.group._replace(**{merged: ""}) if merged else row.group
            key = (group.benchmark if shape.metrics_in == "columns" else "", group.source)
            parts.setdefault(key, []).append(replace(row, group=group))
        tables += [
            _table(paper, shape, lines_of(part_rows, selection), selection) for _, part_rows in sorted(parts.items())
        ]
    return tables


def left_out(runs: Sequence[Run], paper: Paper, selection: str) -> list[str]:
    """One line per experiment and reason about finished runs without a place in any table."""
    counts: dict[tuple[str, str], int] = {}
    for run in (run for run in runs if run.finished and run.rows):
        obstacles = [obstacle(row, shape, selection) for shape in paper.tables for row in run.rows]
        if None not in obstacles:
            reason = max(obstacle_of_row for obstacle_of_row in obstacles if obstacle_of_row)[1]
            key = (run.rows[0].experiment or "no experiment", reason)
            counts[key] = counts.get(key, 0) + 1
    return [f"left out, {n} of the runs of {experiment}: {reason}" for (experiment, reason), n in counts.items()]


def obstacle(row: Row, shape: PaperTable, selection: str) -> tuple[int, str] | None:
    """The reason why a result has no place in a table, with the number of conditions met; None for a place."""
    filling, known = FILLINGS[shape.protocol], shape.domains(row.group.benchmark)
    if row.group.protocol not in filling.protocols:
        return 0, f"no table takes runs with protocol.kind={row.group.protocol}"
    if row.selection != selection:
        return 1, f"there are no results with selection {selection}"
    if row.role != filling.role:
        return 2, f"the tables take {filling.role} results, and there are none"
    if not shape.other_methods and row.label not in shape.methods:
        return 3, f"no table has a row for {row.label}"
    if known and row.domain not in known:
        return 4, f"the paper's {row.group.benchmark} has no {row.domain}, only {', '.join(known)}"
    return None


def _table(paper: Paper, shape: PaperTable, lines: Lines, selection: str) -> Table:
    grid = _grid(shape, lines)
    settings = [line.group._replace(benchmark="") for line in lines]
    varying = [field for field in Group._fields if len({getattr(setting, field) for setting in settings}) > 1]
    rows = [
        (*([name] if name else []), *row) for name, cells in grid.blocks for row in _block(shape, lines, cells, varying)
    ]
    names = (*(["metric"] if grid.blocks[0][0] else []), "method", *varying, "numbers")
    benchmarks = ", ".join(dict.fromkeys(line.group.benchmark for line in lines))
    source = f" trained on {settings[0].source}" if settings[0].source else ""
    title = f"{paper.name}, {shape.title}: {benchmarks}{source}, {SELECTIONS[selection]}"
    notes = (error_note(rows), *_notes(paper, shape, rows))
    return Table(title, (*names, "seeds", *grid.titles), tuple(rows), notes, len(names))


def _grid(shape: PaperTable, lines: Lines) -> Grid:
    benchmarks = list(dict.fromkeys(line.group.benchmark for line in lines))
    domains = {benchmark: _domains(shape, lines, benchmark) for benchmark in benchmarks}
    average = [""] if shape.average else []
    forms = {metric: notation.measure(metric) for metric, notation in shape.metrics.items()}
    if shape.metrics_in == "columns":
        (benchmark,) = benchmarks
        cells = [Cell(benchmark, d, m) for d in domains[benchmark] for m in forms if shape.has(benchmark, d, m)]
        cells += [Cell(benchmark, "", metric) for _ in average for metric in forms]
        return Grid([f"{cell.domain or 'average'} {forms[cell.metric].title}" for cell in cells], [("", cells)])
    places = [(benchmark, domain) for benchmark in benchmarks for domain in [*domains[benchmark], *average]]
    averages = {name: f"average of {name}" if len(benchmarks) > 1 else "average" for name in benchmarks}
    names = {
        metric: form.title + (" (not measured)" if shape.metrics[metric].unmeasured else "")
        for metric, form in forms.items()
    }
    blocks = [(names[metric], [Cell(*place, metric) for place in places]) for metric in forms]
    return Grid([domain or averages[benchmark] for benchmark, domain in places], blocks)


def _domains(shape: PaperTable, lines: Lines, benchmark: str) -> list[str]:
    """The paper's domains of a benchmark; for a benchmark not in the paper, the domains of the results."""
    measured = {row.domain for line, rows in lines.items() if line.group.benchmark == benchmark for row in rows}
    return shape.domains(benchmark) or sorted(measured)


def _block(shape: PaperTable, lines: Lines, cells: Sequence[Cell], varying: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows of the paper's methods, each with own numbers above the published ones; then rows of further methods."""
    ours: dict[str, dict[Line, None]] = {method: {} for method in shape.methods}
    for line in lines:
        merged = line._replace(group=line.group._replace(benchmark=""))
        ours.setdefault(line.label, {})[merged] = None
    rows = []
    for label, merged_lines in ours.items():
        name = shape.methods.get(label, label)
        for line in merged_lines:
            rows.append((name, *(getattr(line.group, field) for field in varying), *_ours(shape, lines, line, cells)))
        if not merged_lines:
            rows.append((name, *[MISSING] * len(varying), OURS, "0", *[MISSING] * len(cells)))
        published_texts = _published(shape, cells, label)
        if any(text != MISSING for text in published_texts):
            rows.append((name, *[MISSING] * len(varying), PUBLISHED, MISSING, *published_texts))
    return rows


def _ours(shape: PaperTable, lines: Lines, line: Line, cells: Sequence[Cell]) -> list[str]:
    """The texts of a line's row from the column `numbers` on. line: without benchmark, since a row may have several."""
    values = [_values(shape, lines, line, cell) for cell in cells]
    seeds = len(set().union(*values))
    forms = [shape.metrics[cell.metric].measure(cell.metric) for cell in cells]
    return [
        OURS,
        str(seeds),
        *(cell_text(seed_values, form, seeds) for seed_values, form in zip(values, forms, strict=True)),
    ]


def _values(shape: PaperTable, lines: Lines, line: Line, cell: Cell) -> SeedValues:
    """Seed -> value; an average only for seeds with all domains of the table, as in the paper."""
    benchmark_line = line._replace(group=line.group._replace(benchmark=cell.benchmark))
    if benchmark_line not in lines:
        return {}
    domains = [cell.domain] if cell.domain else _domains(shape, lines, cell.benchmark)
    role = FILLINGS[shape.protocol].role
    values = [values_of(lines, benchmark_line, Column(domain, cell.metric, role, domain)) for domain in domains]
    seeds = sorted(set.intersection(*(set(seed_values) for seed_values in values)))
    return {seed: fmean(seed_values[seed] for seed_values in values) for seed in seeds}


def _published(shape: PaperTable, cells: Sequence[Cell], method: str) -> list[str]:
    numbers = [shape.number(cell.benchmark, cell.domain, cell.metric, method) for cell in cells]
    decimals = [shape.metrics[cell.metric].measure(cell.metric).decimals for cell in cells]
    return [MISSING if n is None else f"{n:.{digits}f}" for n, digits in zip(numbers, decimals, strict=True)]


def _notes(paper: Paper, shape: PaperTable, rows: Sequence[Sequence[str]]) -> list[str]:
    """Notes on the source of published numbers, on methods renamed in the paper, and on unmeasured metrics."""
    renamed = [f"{name} is our {label}" for label, name in shape.methods.items() if name.lower() != label]
    reasons = {n.measure(metric).name: n.unmeasured for metric, n in shape.metrics.items() if n.unmeasured}
    has_published = any(PUBLISHED in row for row in rows)
    return [
        *([f"Published, not ours: {paper.title}, {paper.url}; {shape.source}."] if has_published else []),
        *([f"{'; '.join(renamed)}."] if renamed else []),
        *([f"{shape.note}."] if shape.note else []),
        *(f"{name} is not measured here: {reason}." for name, reason in reasons.items()),
    ]
