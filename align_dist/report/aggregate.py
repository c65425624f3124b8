"""From rows to numbers: which rows belong together, and mean and standard error over their seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from align_dist.errors import DataError
from align_dist.runs.results import IN_DOMAIN, OUT_OF_DOMAIN, Group, Row

SeedValues = dict[int, float]


class Line(NamedTuple):
    """What one line of a table averages over seeds: a method with its variant, in a group."""

    group: Group
    method: str
    variant: str

    @property
    def label(self) -> str:
        """The method as tables name it."""
        return f"{self.method} ({self.variant})" if self.variant else self.method


@dataclass(frozen=True)
class Column:
    """What a column shows: a metric on one domain or, without one, its mean over the domains of the role."""

    title: str
    metric: str
    role: str
    domain: str | None = None


def standard_error(values: Sequence[float]) -> float | None:
    """Sample standard deviation over sqrt(n); None for fewer than two values, where there is none."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def lines_of(rows: Iterable[Row], selection: str) -> dict[Line, list[Row]]:
    """The rows of a selection by line, lines in order: by group, ERM before other methods, then by name.

    Raises DataError if there are none, or if two rows claim the same line, seed and domain: they come
    from different configurations, or from one run given twice, and must not be averaged.
    """
    chosen = list(rows)
    lines: dict[Line, list[Row]] = {}
    seen: dict[tuple[Line, int, str], Row] = {}
    for row in (row for row in chosen if row.selection == selection):
        line = Line(row.group, row.method, row.variant)
        other = seen.setdefault((line, row.seed, row.domain), row)
        if other is not row:
            raise DataError(
                f"runs {min(other.run, row.run)} and {max(other.run, row.run)} both claim {row.label}, seed "
                f"{row.seed}, {row.domain}, {selection} in {', '.join(filter(None, row.group))}: "
                "leave one out, or give them different variants"
            )
        lines.setdefault(line, []).append(row)
    if not lines:
        present = ", ".join(sorted({row.selection for row in chosen})) or "none"
        raise DataError(f"no finished result with selection {selection!r}; there are: {present}")
    return dict(sorted(lines.items(), key=lambda item: _order(item[0])))


def _order(line: Line) -> tuple[Group, bool, str, str]:
    return (line.group, line.method.lower() != "erm", line.method, line.variant)


def domains_of(lines: Mapping[Line, Sequence[Row]], role: str, metric: str | None = None) -> list[str]:
    """The names, sorted, of the domains that have the role in some row (and the metric, if one is named)."""
    rows = (row for group in lines.values() for row in group)
    return sorted({r.domain for r in rows if r.role == role and (metric is None or metric in r.metrics)})


def domain_columns(lines: Mapping[Line, Sequence[Row]], metric: str) -> list[Column]:
    """A metric's columns: every in-domain domain, every other domain, the mean over the others."""
    inside = [Column(f"{d} (in-domain)", metric, IN_DOMAIN, d) for d in domains_of(lines, IN_DOMAIN)]
    others = domains_of(lines, OUT_OF_DOMAIN)
    outside = [Column(domain, metric, OUT_OF_DOMAIN, domain) for domain in others]
    return [*inside, *outside, *([Column("out-of-domain mean", metric, OUT_OF_DOMAIN)] if others else [])]


def values_of(lines: Mapping[Line, Sequence[Row]], line: Line, column: Column) -> SeedValues:
    """Seed -> value of a column in one line, by rising seed.

    A mean over domains takes those domains in which any line of the group has the metric, and only the seeds
    that have it in all of them: means over different domains are not comparable.
    """
    peers = {other: rows for other, rows in lines.items() if other.group == line.group}
    domains = [column.domain] if column.domain else domains_of(peers, column.role, column.metric)
    found = {
        (row.seed, row.domain): row.metrics[column.metric]
        for row in lines[line]
        if row.role == column.role and column.metric in row.metrics
    }
    seeds = sorted({row.seed for row in lines[line]})
    complete = [seed for seed in seeds if domains and all((seed, domain) in found for domain in domains)]
    return {seed: fmean(found[seed, domain] for domain in domains) for seed in complete}
