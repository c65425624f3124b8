"""Training scalars: a run's metrics.jsonl, one JSON object a line with a step and values by tag."""

from __future__ import annotations

import json
import math
from pathlib import Path

from align_dist.errors import DataError

METRICS = "metrics.jsonl"

Series = dict[int, float]


def read_scalars(path: Path) -> dict[str, Series]:
    """Tag -> step -> value, by rising step. A step written twice, as after a resume, keeps its last value.

    Values that are not finite numbers are left out. Raises DataError naming file and line for one that is
    not an object with a step; an unterminated last line, as of a run that was killed, is skipped.
    """
    text = path.read_text("utf-8", errors="replace")
    complete = text[: text.rfind("\n") + 1]
    found: dict[str, Series] = {}
    for number, line in enumerate(complete.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            step = int(record["step"])
        except (ValueError, KeyError, TypeError) as error:
            message = f"{path} line {number}: expected a JSON object with a step; remove the line"
            raise DataError(message) from error
        for tag, value in record.items():
            if tag != "step" and _is_finite(value):
                found.setdefault(tag, {})[step] = float(value)
    return {tag: dict(sorted(series.items())) for tag, series in sorted(found.items())}


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
