"""CSV metadata: the group and the part (of the benchmark's own split) of each image."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from align_dist.data.catalogue import Catalogue, Sample, printable, relative_name
from align_dist.errors import DataError, nearest_name

PARTS = ("train", "validation", "test")
COLUMNS = "image, and attribute, split or both"


@dataclass(frozen=True)
class Line:
    """One line of a CSV file. number: line number, from 1. values: by column."""

    path: Path
    number: int
    values: Mapping[str, str]

    def choice(self, column: str, choices: Sequence[str]) -> str:
        """The value of a column with a fixed set of choices. Raises DataError for any other value."""
        value = self.values[column]
        if value not in choices:
            raise self.error(f"{column} {value!r}; takes {', '.join(choices)}")
        return value

    def error(self, message: str) -> DataError:
        """The DataError about this line."""
        return DataError(f"{self.path} line {self.number}: {printable(message)}")


def read_lines(path: Path, required: Sequence[str], remedy: str) -> list[Line]:
    """The lines of a CSV file with a header, with spaces around values stripped.

    Raises DataError for a missing file, a missing column, a file without lines, and a file that is not CSV in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            absent = [name for name in required if name not in columns]
            if absent:
                raise DataError(f"{path} line 1: no column {', '.join(absent)} among {', '.join(columns)}; {remedy}")
            lines = [_line(path, reader.line_num, columns, values) for values in reader]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {remedy}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}); {remedy}") from None
    if not lines:
        raise DataError(f"{path}: no line below the header; {remedy}")
    return lines


def _line(path: Path, number: int, columns: Sequence[str], values: dict[str | None, str | list[str] | None]) -> Line:
    fields = {name: value.strip() for name, value in values.items() if name is not None and isinstance(value, str)}
    if len(fields) < len(columns) or None in values:
        raise DataError(f"{path} line {number}: expected {len(columns)} values; put a value with a comma in quotes")
    return Line(path, number, fields)


def by_image(lines: Iterable[Line], column: str) -> dict[str, Line]:
    """Lines by the image in a column. Raises DataError for an image listed twice."""
    lines_by_image: dict[str, Line] = {}
    for line in lines:
        first = lines_by_image.setdefault(line.values[column], line)
        if first is not line:
            raise line.error(f"{line.values[column]} is already listed in line {first.number}; remove one of the two")
    return lines_by_image


def attach_metadata(catalogue: Catalogue, path: Path) -> Catalogue:
    """The catalogue with the group and the part of each image from a CSV file (see BenchmarkConfig).

    Raises DataError, with file, line and remedy, for an image without a line, a line without an image, an empty
    attribute and an unknown part.
    """
    lines = by_image(read_lines(path, ("image",), f"expected the columns {COLUMNS}"), "image")
    columns = next(iter(lines.values())).values
    if not {"attribute", "split"} & set(columns):
        raise DataError(f"{path} line 1: neither a column attribute nor split; expected the columns {COLUMNS}")
    names = [relative_name(sample.path, catalogue.root) for sample in catalogue.samples]
    known = set(names)
    unknown = [line for name, line in lines.items() if name not in known]
    if unknown:
        name = unknown[0].values["image"]
        hint = nearest_name(name, names)
        raise unknown[0].error(f"no image {name} under {catalogue.root}{hint}; correct the path or remove the line")
    unlisted = [name for name in names if name not in lines]
    if unlisted:
        raise DataError(
            f"{path}: no line for {printable(unlisted[0])} ({len(unlisted):,} of {len(names):,} images); add them, or "
            "remove the images from the folders"
        )
    samples = (_with_line(sample, lines[name]) for sample, name in zip(catalogue.samples, names, strict=True))
    return replace(catalogue, samples=tuple(samples))


def _with_line(sample: Sample, line: Line) -> Sample:
    group, part = sample.group, sample.part
    if "attribute" in line.values:
        if not line.values["attribute"]:
            raise line.error("no attribute; give every image one, or remove the column")
        group = f"{sample.label} {line.values['attribute']}"
    if "split" in line.values:
        part = line.choice("split", PARTS)
    return replace(sample, group=group, part=part)
