"""A CSV file that says of each picture which group it is of, and which part of the benchmark's own split."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from align_dist.data.catalogue import Catalogue, Sample, relative, shown
from align_dist.errors import DataError, nearest_name

PARTS = ("train", "validation", "test")
COLUMNS = "image, and attribute, split or both"


@dataclass(frozen=True)
class Line:
    """One line of a CSV file. number: as an editor counts it. values: by column."""

    path: Path
    number: int
    values: Mapping[str, str]

    def chosen(self, column: str, choices: Sequence[str]) -> str:
        """The value of a column that takes one of a few. Raises DataError for any other."""
        value = self.values[column]
        if value not in choices:
            raise self.wrong(f"{column} {value!r}; takes {', '.join(choices)}")
        return value

    def wrong(self, what: str) -> DataError:
        """What to raise of a line."""
        return DataError(f"{self.path} line {self.number}: {shown(what)}")


def read_lines(path: Path, needed: Sequence[str], remedy: str) -> list[Line]:
    """The lines of a CSV file whose first names its columns, spaces around values taken off.

    Raises DataError for a missing file, one without the needed columns or any line, and one that is no CSV in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            absent = [name for name in needed if name not in columns]
            if absent:
                raise DataError(f"{path} line 1: no column {', '.join(absent)} among {', '.join(columns)}; {remedy}")
            lines = [_line(path, reader.line_num, columns, values) for values in reader]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {remedy}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}); {remedy}") from None
    if not lines:
        raise DataError(f"{path}: no line below the columns' names; {remedy}")
    return lines


def _line(path: Path, number: int, columns: Sequence[str], values: dict[str | None, str | list[str] | None]) -> Line:
    texts = {name: value.strip() for name, value in values.items() if name is not None and isinstance(value, str)}
    if len(texts) < len(columns) or None in values:
        raise DataError(f"{path} line {number}: not {len(columns)} values; a value with a comma in it takes quotes")
    return Line(path, number, texts)


def by_picture(lines: Iterable[Line], column: str) -> dict[str, Line]:
    """Lines by the picture that a column names. Raises DataError for one that is named twice."""
    found: dict[str, Line] = {}
    for line in lines:
        first = found.setdefault(line.values[column], line)
        if first is not line:
            raise line.wrong(f"{line.values[column]} is listed already in line {first.number}; remove one of the two")
    return found


def attach_metadata(catalogue: Catalogue, path: Path) -> Catalogue:
    """The catalogue with the group and the part of each picture, as a CSV file has them (see BenchmarkConfig).

    Raises DataError, with file, line and remedy, for a picture without a line, a line without a picture, an empty
    attribute and an unknown part.
    """
    lines = by_picture(read_lines(path, ("image",), f"expected the columns {COLUMNS}"), "image")
    columns = next(iter(lines.values())).values
    if not {"attribute", "split"} & set(columns):
        raise DataError(f"{path} line 1: neither a column attribute nor split; expected the columns {COLUMNS}")
    names = [relative(sample.path, catalogue.root) for sample in catalogue.samples]
    known = set(names)
    unknown = [line for name, line in lines.items() if name not in known]
    if unknown:
        name = unknown[0].values["image"]
        hint = nearest_name(name, names)
        raise unknown[0].wrong(f"no picture {name} under {catalogue.root}{hint}; mend the path or remove the line")
    unlisted = [name for name in names if name not in lines]
    if unlisted:
        raise DataError(
            f"{path}: no line for {shown(unlisted[0])} ({len(unlisted):,} of {len(names):,} pictures); add them, or "
            "take the pictures out of the folders"
        )
    samples = (_with_line(sample, lines[name]) for sample, name in zip(catalogue.samples, names, strict=True))
    return replace(catalogue, samples=tuple(samples))


def _with_line(sample: Sample, line: Line) -> Sample:
    group, part = sample.group, sample.part
    if "attribute" in line.values:
        if not line.values["attribute"]:
            raise line.wrong("no attribute; give every picture one, or take the column out")
        group = f"{sample.label} {line.values['attribute']}"
    if "split" in line.values:
        part = line.chosen("split", PARTS)
    return replace(sample, group=group, part=part)
