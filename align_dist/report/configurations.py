"""Differences between the configs of averaged runs, and the environments of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align_dist.report.aggregate import Line
from align_dist.report.rows import Run
from align_dist.runs.folder import RunFolder
from align_dist.runs.provenance import read_starts

MAY_DIFFER = ("seed",)
ABSENT = "absent"


def differing_settings(runs: Sequence[Run]) -> dict[Line, dict[str, list[str]]]:
    """Line -> dotted key -> values in the line's runs, for keys other than seeds that differ.

    Runs without a readable config.yaml are left out of the comparison.
    """
    settings: dict[Line, list[dict[str, str]]] = {}
    for run in runs:
        flat = read_settings(RunFolder(run.folder).description)
        for line in {Line(row.group, row.method, row.variant) for row in run.rows} if flat else ():
            settings.setdefault(line, []).append(flat)
    differing = {line: _differences(line_settings) for line, line_settings in sorted(settings.items())}
    return {line: differences for line, differences in differing.items() if differences}


def read_settings(path: Path) -> dict[str, str]:
    """Dotted key -> value as text; empty for a missing file or a file that is not a YAML mapping."""
    from yaml import YAMLError, safe_load

    try:
        content = safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return {}
    return _flat(content) if isinstance(content, dict) else {}


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


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: str(value)})
    return flat


def _differences(settings: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    keys = sorted(set().union(*settings))
    values = {key: sorted({run_settings.get(key, ABSENT) for run_settings in settings}) for key in keys}
    return {k: v for k, v in values.items() if len(v) > 1 and k.rsplit(".", 1)[-1] not in MAY_DIFFER}
