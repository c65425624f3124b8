"""The tables of a grid of runs: one row per method, one column per domain trained on or held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from align_dist.report.aggregate import Column, Line, lines_of
from align_dist.report.render import Table
from align_dist.report.tables import ERROR_NOTE, LEAVE_ONE_OUT, SELECTIONS, make_table, named, plain_values
from align_dist.runs.results import IN_DOMAIN, OUT_OF_DOMAIN, Group, Row, label_of

IN_DOMAIN_METRICS = ("accuracy", "insertion_auc", "roc_auc", "sufficiency", "comprehensiveness")


class Place(NamedTuple):
    """A run of a grid: domain, method, variant and seed."""

    domain: str
    method: str
    variant: str
    seed: int

    @property
    def text(self) -> str:
        return f"{self.domain} {label_of(self.method, self.variant)} seed {self.seed}"


def grid_tables(rows: Iterable[Row], places: Sequence[Place], protocol: str, selection: str) -> list[Table]:
    """Every table of a grid of runs for one model selection; missing runs are marked and listed.

    single_source and in_domain: a column is the domain trained on, with in-domain metrics, then the mean accuracy on
    all other domains. leave_one_out: a column is the domain held out. Raises DataError for two rows of one run's place.
    """
    finished = list(rows)
    held_out = protocol == LEAVE_ONE_OUT
    kinds = [("held out", OUT_OF_DOMAIN, m) for m in IN_DOMAIN_METRICS] if held_out else []
    kinds += [] if held_out else [("trained on and tested on", IN_DOMAIN, m) for m in IN_DOMAIN_METRICS]
    if protocol == "single_source":
        kinds.append(("trained on, mean over all other domains", OUT_OF_DOMAIN, "accuracy"))
    tables = [_grid_table(finished, places, protocol, selection, *kind) for kind in kinds]
    return [table for table in tables if table.rows]


def _grid_table(
    rows: Sequence[Row],
    places: Sequence[Place],
    protocol: str,
    selection: str,
    description: str,
    role: str,
    metric: str,
) -> Table:
    group = Group("", "", protocol, "", "")
    domain_rows = [row for row in _rows_by_domain(rows, role, group) if metric in row.metrics]
    lines = dict.fromkeys(Line(group, place.method, place.variant) for place in places)
    rows_by_line = lines_of(domain_rows, selection) if any(row.selection == selection for row in domain_rows) else {}
    lines_in_order = {line: list(rows_by_line.get(line, [])) for line in lines}
    domains = list(dict.fromkeys(place.domain for place in places))
    columns = [Column(domain, metric, IN_DOMAIN, domain) for domain in domains]
    columns += [Column("mean", metric, IN_DOMAIN)] if len(domains) > 1 else []
    title = f"{named(metric)}, domain {description}, {SELECTIONS[selection]}"
    notes = (ERROR_NOTE, *_missing(lines_in_order, places))
    return make_table(title, lines_in_order, columns, notes, plain_values(lines_in_order))


def _rows_by_domain(rows: Sequence[Row], role: str, group: Group) -> list[Row]:
    """One row per run and selection, under the run's own domain: the mean over the run's domains of that role."""
    runs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.role == role:
            runs.setdefault((row.run, row.selection), []).append(row)
    domain_rows = []
    for run_rows in runs.values():
        first = run_rows[0]
        home = first.group.target if first.group.protocol == LEAVE_ONE_OUT else first.group.source
        metric_names = set.intersection(*(set(row.metrics) for row in run_rows))
        metrics = {name: fmean(row.metrics[name] for row in run_rows) for name in metric_names}
        domain_rows.append(replace(first, domain=home, role=IN_DOMAIN, group=group, metrics=metrics))
    return domain_rows


def _missing(lines: dict[Line, list[Row]], places: Sequence[Place]) -> list[str]:
    present = {
        Place(row.domain, line.method, line.variant, row.seed) for line, line_rows in lines.items() for row in line_rows
    }
    missing = [place.text for place in places if place not in present]
    return [f"Missing, {len(missing)} of {len(places)} runs: {'; '.join(missing)}."] if missing else []
