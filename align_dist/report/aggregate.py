"""Aggregation of rows: lines of a table, and mean and standard error over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from align_dist.errors import DataError
from align_dist.runs.results import IN_DOMAIN, OUT_OF_DOMAIN, Group, Row, label_of

SeedValues = dict[int, float]


class Line(NamedTuple):
    """A line of a table, averaged over seeds: a method with its variant, in a group."""

    group: Group
    method: str
    variant: str

    @property
    def label(self) -> str:
        """The method's name in tables."""
        return label_of(self.method, self.variant)


@dataclass(frozen=True)
class Column:
    """A column of a table: a metric on one domain or, without a domain, the mean over the domains of the role."""

    title: str
    metric: str
    role: str
    domain: str | None = None


def standard_error(values: Sequence[float]) -> float | None:
    """Sample standard deviation over sqrt(n); None for fewer than two values."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def lines_of(rows: Iterable[Row], selection: str) -> dict[Line, list[Row]]:
    """The rows of a selection by line, ordered by group, then ERM before other methods, then by name.

    Raises DataError for no rows, and for two rows of the same line, seed and domain, which come from different configs
    or from a run listed twice and must not be averaged.
    """
    all_rows = list(rows)
    lines: dict[Line, list[Row]] = {}
    row_by_place: dict[tuple[Line, int, str], Row] = {}
    for row in (row for row in all_rows if row.selection == selection):
        line = Line(row.group, row.method, row.variant)
        other = row_by_place.setdefault((line, row.seed, row.domain), row)
        if other is not row:
            raise DataError(
                f"runs {min(other.run, row.run)} and {max(other.run, row.run)} both claim {row.label}, seed "
                f"{row.seed}, {row.domain}, {selection} in {', '.join(filter(None, row.group))}: "
                "remove one, or set different variants"
            )
        lines.setdefault(line, []).append(row)
    if not lines:
        present = ", ".join(sorted({row.selection for row in all_rows})) or "none"
        raise DataError(f"no finished result with selection {selection!r}; there are: {present}")
    return dict(sorted(lines.items(), key=lambda item: _order(item[0])))


def _order(line: Line) -> tuple[Group, bool, str, str]:
    return (line.group, line.method.lower() != "erm", line.method, line.variant)


def differences_of(groups: Iterable[Group]) -> str:
    """Fields in which groups differ, such as `evaluation: the default / faithfulness_images=64`, with the remedy."""
    fields = zip(Group._fields, zip(*groups, strict=True), strict=True)
    differing = {name: sorted(set(values)) for name, values in fields if len(set(values)) > 1}
    text = "; ".join(f"{name}: {' / '.join(value or 'the default' for value in differing[name])}" for name in differing)
    remedy = "measure them alike, by `align-dist evaluate RUN evaluation.KEY=VALUE`"
    return f"{text}; {remedy if [*differing] == ['evaluation'] else 'give runs of one task'}"


def domains_of(lines: Mapping[Line, Sequence[Row]], role: str, metric: str | None = None) -> list[str]:
    """Sorted names of the domains with the role in some row (and with the metric, if given)."""
    rows = (row for group in lines.values() for row in group)
    return sorted({r.domain for r in rows if r.role == role and (metric is None or metric in r.metrics)})


def domain_columns(lines: Mapping[Line, Sequence[Row]], metric: str) -> list[Column]:
    """A metric's columns: every in-domain domain, every other domain, and the mean over the other domains."""
    inside = [Column(f"{d} (in-domain)", metric, IN_DOMAIN, d) for d in domains_of(lines, IN_DOMAIN)]
    others = domains_of(lines, OUT_OF_DOMAIN)
    outside = [Column(domain, metric, OUT_OF_DOMAIN, domain) for domain in others]
    return [*inside, *outside, *([Column("out-of-domain mean", metric, OUT_OF_DOMAIN)] if others else [])]


def values_of(lines: Mapping[Line, Sequence[Row]], line: Line, column: Column) -> SeedValues:
    """Seed -> value of a column in one line, sorted by seed.

    A mean over domains uses the domains for which any line of the group has the metric, and only seeds with the metric
    in all of these domains, because means over different domains are not comparable.
    """
    peers = {other: rows for other, rows in lines.items() if other.group == line.group}
    domains = [column.domain] if column.domain else domains_of(peers, column.role, column.metric)
    values = {
        (row.seed, row.domain): row.metrics[column.metric]
        for row in lines[line]
        if row.role == column.role and column.metric in row.metrics
    }
    seeds = sorted({row.seed for row in lines[line]})
    complete = [seed for seed in seeds if domains and all((seed, domain) in values for domain in domains)]
    return {seed: fmean(values[seed, domain] for domain in domains) for seed in complete}
