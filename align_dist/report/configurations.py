"""Do the runs that a table averages really share their configuration? Only the seed may differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align_dist.report.aggregate import Line
from align_dist.report.rows import CONFIG, Run

MAY_DIFFER = ("seed",)
ABSENT = "absent"


def differing_settings(runs: Sequence[Run]) -> dict[Line, dict[str, list[str]]]:
    """Line -> dotted key -> the values it takes in the line's runs, for keys that differ, seeds aside.

    Runs without a readable config.yaml are left out of the comparison.
    """
    settings: dict[Line, list[dict[str, str]]] = {}
    for run in runs:
        flat = read_settings(run.folder / CONFIG)
        for line in {Line(row.group, row.method, row.variant) for row in run.rows} if flat else ():
            settings.setdefault(line, []).append(flat)
    differing = {line: _differences(some) for line, some in sorted(settings.items())}
    return {line: found for line, found in differing.items() if found}


def read_settings(path: Path) -> dict[str, str]:
    """Dotted key -> value as text; empty if there is no such file or it is not a YAML mapping."""
    from yaml import YAMLError, safe_load

    try:
        content = safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return {}
    return _flat(content) if isinstance(content, dict) else {}


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: str(value)})
    return flat


def _differences(settings: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    keys = sorted(set().union(*settings))
    values = {key: sorted({some.get(key, ABSENT) for some in settings}) for key in keys}
    return {k: v for k, v in values.items() if len(v) > 1 and k.rsplit(".", 1)[-1] not in MAY_DIFFER}
