"""Differences between the configs of averaged runs, and the environments of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from align_dist.config.identity import NOT_HASHED
from align_dist.report.aggregate import Line
from align_dist.report.render import Table
from align_dist.report.rows import Run
from align_dist.runs.folder import RunFolder
from align_dist.runs.provenance import read_starts
from align_dist.runs.results import Group

MAY_DIFFER = ("seed",)
ABSENT = "absent"
# Sections of a config that are neither in a table's columns nor a method's own.
UNTOLD = ("training", "data", "classifier", "protocol", "benchmark")
TOLD = {
    "classifier": ("backbone", "attribution", "cam_places"),
    "protocol": ("kind", "source", "target"),
    # Masks are the method's; the images that results are of are told by their number and domain.
    "benchmark": ("name", "agreement", "mask_values", "fingerprint"),
}


def differing_settings(runs: Sequence[Run]) -> dict[Line, dict[str, list[str]]]:
    """Line -> dotted key -> values in the line's runs, for keys other than seeds that differ.

    Runs without a readable config.yaml are left out of the comparison.
    """
    settings: dict[Line, list[dict[str, str]]] = {}
    for run in runs:
        flat = run.settings
        for line in {Line(row.group, row.method, row.variant) for row in run.rows} if flat else ():
            settings.setdefault(line, []).append(flat)
    differing = {line: _differences(line_settings) for line, line_settings in sorted(settings.items())}
    return {line: differences for line, differences in differing.items() if differences}


def settings_table(runs: Sequence[Run]) -> Table | None:
    """One line per key whose value differs between methods or variants, with each value and which have it; None where
    none differs. Seeds and keys that only one method has, its own options, are left out.
    """
    settings = [(run.label, run.settings) for run in runs]
    keys = sorted({key for _, flat in settings for key in flat if key not in MAY_DIFFER})
    rows = tuple((key, text) for key in keys if (text := _values_text(key, settings)))
    return Table("Settings that differ", ("key", "values"), rows, names=2) if rows else None


def unequal_settings(runs: Sequence[Run]) -> list[str]:
    """A line for each setting that has an effect on results, in which finished runs of one comparison differ, and which
    neither a column nor a method's name shows.
    """
    groups: dict[Group, list[Run]] = {}
    for run in runs:
        if run.finished and run.rows:
            groups.setdefault(run.rows[0].group, []).append(run)
    tables = [table for group_runs in groups.values() if (table := settings_table(group_runs)) is not None]
    lines = [f"not the same: {key}: {values}" for table in tables for key, values in table.rows if _is_untold(key)]
    return list(dict.fromkeys(lines))


def _is_untold(key: str) -> bool:
    section, _, name = key.partition(".")
    return section in UNTOLD and name not in (*NOT_HASHED.get(section, ()), *TOLD.get(section, ()))


def _values_text(key: str, settings: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """Such as `0.5 (align); 2 (align (strong), dre)`; empty where all runs that have the key agree."""
    labels: dict[str, dict[str, None]] = {}
    for label, flat in settings:
        if key in flat:
            labels.setdefault(flat[key], {})[label] = None
    if len(labels) < 2 or key in ("method", "variant"):
        return ""
    return "; ".join(f"{value} ({', '.join(value_labels)})" for value, value_labels in labels.items())


def environments(runs: Sequence[Run]) -> dict[str, int]:
    """Environment (code, packages, machine, arithmetic) in one line -> number of runs started in that environment.

    A run resumed in another environment counts for each. Runs without a readable environment.json do not count.
    """
    starts_of_runs = [read_starts(RunFolder(run.folder).environment) for run in runs]
    lines = [line for starts in starts_of_runs for line in sorted({_line(start) for start in starts})]
    return dict(sorted(Counter(lines).items(), key=lambda item: (-item[1], item[0])))


def _line(start: Mapping[str, Any]) -> str:
    packages = start.get("packages") or {}
    versions = [f"{package} {version}" for package, version in packages.items()]
    facts = [f"code {start.get('revision')}", f"Python {start.get('python')}", *versions, str(start.get("machine"))]
    # Only newer starts record their arithmetic.
    arithmetic = [f"{start['threads']} threads"] if "threads" in start else []
    arithmetic += [str(start[key]) for key in ("precision", "memory_format") if key in start]
    return " · ".join([*facts, *arithmetic])


def _differences(settings: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    keys = sorted(set().union(*settings))
    values = {key: sorted({run_settings.get(key, ABSENT) for run_settings in settings}) for key in keys}
    return {k: v for k, v in values.items() if len(v) > 1 and k not in MAY_DIFFER}
