"""A run's metrics.jsonl: a line for each step that tells something, with scalars by tag.

The only place that knows the line's form. A line of another form, torn by a crash or damaged, is there for no reader.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from align_dist.files import json_object, last_lines, unwritable, write_text

# The tag that tells how long a run will take.
SPEED = "speed/"
IMAGES_PER_SECOND = f"{SPEED}images_per_second"
WAITING_FOR_DATA = f"{SPEED}waiting_for_data"  # share of the time
VALIDATION_ACCURACY = "validation/accuracy"
LATEST = 50

Series = dict[int, float]


class Record(NamedTuple):
    """The record of `step` finished steps: finite scalars by tag."""

    step: int
    epoch: float
    values: Mapping[str, float]


def write_metrics(path: Path, step: int, epoch: float, values: Mapping[str, float]) -> None:
    """Appends one line; a value that is not finite becomes null, which JSON has. Raises StorageError."""
    finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
    try:
        with path.open("a") as file:
            file.write(json.dumps({"step": step, "epoch": round(epoch, 4), **finite}) + "\n")
    except OSError as error:
        raise unwritable(path, error) from None


def forget_after(path: Path, step: int) -> None:
    """Drops the lines of steps after `step`, which a resumed run does again, and those of another form."""
    if path.exists():
        lines = [line for line in _lines_of(path) if (record := parse_record(line)) and record.step <= step]
        write_text(path, "".join(f"{line}\n" for line in lines))


def copy_metrics(source: Path, path: Path, step: int) -> None:
    """Write the lines of another run up to `step` as a run's first ones, without the other's speed."""
    records = [record for record in read_metrics(source) if record.step <= step]
    write_text(path, "")
    for record in records:
        values = {tag: value for tag, value in record.values.items() if not tag.startswith(SPEED)}
        if values:
            write_metrics(path, record.step, record.epoch, values)


def read_metrics(path: Path) -> list[Record]:
    """All records in the order they were written; none where there is no file."""
    return _records_in(_lines_of(path) if path.exists() else [])


def latest_metrics(path: Path) -> list[Record]:
    """The records among the last lines, fifty at most, without reading the whole file."""
    return _records_in(last_lines(path, LATEST))


def read_scalars(path: Path) -> dict[str, Series]:
    """`scalars_of` a file's records."""
    return scalars_of(read_metrics(path))


def scalars_of(records: Iterable[Record]) -> dict[str, Series]:
    """Tag -> step -> value, by name and rising step. A step written twice keeps its last value."""
    scalars: dict[str, Series] = {}
    for record in records:
        for tag, value in record.values.items():
            scalars.setdefault(tag, {})[record.step] = value
    return {tag: dict(sorted(series.items())) for tag, series in sorted(scalars.items())}


def read_scalar(path: Path, tag: str) -> Series:
    """One tag's values by rising step; a line that does not name the tag costs no parsing."""
    naming = [line for line in _lines_of(path) if f'"{tag}"' in line] if path.exists() else []
    values = {record.step: record.values[tag] for record in _records_in(naming) if tag in record.values}
    return dict(sorted(values.items()))


def parse_record(line: str) -> Record | None:
    """The record in a line; None where the line is no such record."""
    values = json_object(line) or {}
    step, epoch = values.pop("step", None), values.pop("epoch", None)
    if not isinstance(step, int) or isinstance(step, bool) or not _is_finite(epoch):
        return None
    return Record(step, float(epoch), {tag: float(value) for tag, value in values.items() if _is_finite(value)})


def _lines_of(path: Path) -> list[str]:
    return path.read_text("utf-8", errors="replace").splitlines()


def _records_in(lines: Iterable[str]) -> list[Record]:
    return [record for record in map(parse_record, lines) if record is not None]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
