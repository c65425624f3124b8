"""The tables of a paper: one row a method, one column a domain that was trained on, or held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from align_dist.report.aggregate import Column, Line, lines_of
from align_dist.report.render import Table
from align_dist.report.tables import ERROR_NOTE, LEAVE_ONE_OUT, SELECTIONS, make_table, named, plain_values
from align_dist.runs.results import IN_DOMAIN, OUT_OF_DOMAIN, Group, Row

IN_DOMAIN_METRICS = ("accuracy", "insertion_auc", "roc_auc", "sufficiency", "comprehensiveness")


class Place(NamedTuple):
    """A cell of a grid: what a run was to fill. label: of the method, with its variant."""

    domain: str
    method: str
    variant: str
    seed: int

    @property
    def text(self) -> str:
        label = f"{self.method} ({self.variant})" if self.variant else self.method
        return f"{self.domain} {label} seed {self.seed}"


def grid_tables(rows: Iterable[Row], wanted: Sequence[Place], protocol: str, selection: str) -> list[Table]:
    """Every table of a grid of runs under one model selection; what is not there yet is marked and named.

    single_source and in_domain: a column is the domain trained on; in-domain measures, then the mean accuracy on
    all other domains. leave_one_out: a column is the domain held out. Raises DataError for rows that claim one place.
    """
    finished = list(rows)
    held_out = protocol == LEAVE_ONE_OUT
    kinds = [("held out", OUT_OF_DOMAIN, m) for m in IN_DOMAIN_METRICS] if held_out else []
    kinds += [] if held_out else [("trained on and tested on", IN_DOMAIN, m) for m in IN_DOMAIN_METRICS]
    if protocol == "single_source":
        kinds.append(("trained on, mean over all other domains", OUT_OF_DOMAIN, "accuracy"))
    tables = [_grid_table(finished, wanted, protocol, selection, *kind) for kind in kinds]
    return [table for table in tables if table.rows]


def _grid_table(
    rows: Sequence[Row], wanted: Sequence[Place], protocol: str, selection: str, what: str, role: str, metric: str
) -> Table:
    group = Group("", "", protocol, "", "")
    placed = [row for row in _placed(rows, role, group) if metric in row.metrics]
    lines = dict.fromkeys(Line(group, place.method, place.variant) for place in wanted)
    found = lines_of(placed, selection) if any(row.selection == selection for row in placed) else {}
    ordered = {line: list(found.get(line, [])) for line in lines}
    domains = list(dict.fromkeys(place.domain for place in wanted))
    columns = [Column(domain, metric, IN_DOMAIN, domain) for domain in domains]
    columns += [Column("mean", metric, IN_DOMAIN)] if len(domains) > 1 else []
    title = f"{named(metric)}, domain {what}, {SELECTIONS[selection]}"
    notes = (ERROR_NOTE, *_missing(ordered, wanted))
    return make_table(title, ordered, columns, notes, plain_values(ordered))


def _placed(rows: Sequence[Row], role: str, group: Group) -> list[Row]:
    """One row for each run and selection, under the run's own domain: the mean over its domains of that role."""
    runs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.role == role:
            runs.setdefault((row.run, row.selection), []).append(row)
    placed = []
    for found in runs.values():
        first = found[0]
        home = first.group.target if first.group.protocol == LEAVE_ONE_OUT else first.group.source
        shared = set.intersection(*(set(row.metrics) for row in found))
        metrics = {name: fmean(row.metrics[name] for row in found) for name in shared}
        placed.append(replace(first, domain=home, role=IN_DOMAIN, group=group, metrics=metrics))
    return placed


def _missing(lines: dict[Line, list[Row]], wanted: Sequence[Place]) -> list[str]:
    there = {Place(row.domain, line.method, line.variant, row.seed) for line, found in lines.items() for row in found}
    missing = [place.text for place in wanted if place not in there]
    return [f"Missing, {len(missing)} of {len(wanted)} runs: {'; '.join(missing)}."] if missing else []
