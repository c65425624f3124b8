"""Waterbirds in the layout of WILDS: birds cut out of CUB on backgrounds that mostly correlate with the class.

Source: Sagawa et al., ICLR 2020, https://arxiv.org/abs/1911.08731, and WILDS, https://arxiv.org/abs/2012.07421.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from align_dist.data.catalogue import Catalogue, LeftOut, Sample, make_catalogue, printable
from align_dist.data.folders import IMAGE_SUFFIXES
from align_dist.data.metadata import PARTS, Line, by_image, read_lines
from align_dist.errors import DataError

DOMAIN = "waterbirds"
CLASSES, PLACES = ("landbird", "waterbird"), ("on land", "on water")
COLUMNS = ("img_filename", "y", "split", "place")
WHERE = "get waterbirds_v1.0 with the wilds package's download, and put that folder there"


def read_waterbirds(root: Path) -> Catalogue:
    """Read `metadata.csv` and the listed images as one domain with groups and parts.

    Raises DataError for a missing or invalid file and for missing images, OSError for unreadable files.
    """
    folders = [folder for folder in (root / "waterbirds_v1.0", root) if (folder / "metadata.csv").is_file()]
    if not folders:
        raise DataError(f"{root}: contains neither metadata.csv nor waterbirds_v1.0; {WHERE}")
    folder = folders[0]
    lines = by_image(read_lines(folder / "metadata.csv", COLUMNS, WHERE), "img_filename")
    samples = [_sample(folder, line) for line in lines.values()]
    missing = [sample for sample in samples if not sample.path.is_file()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing):,} of the {len(samples):,} images in metadata.csv are missing "
            f"(first {printable(missing[0].path.name)}); {WHERE}"
        )
    return make_catalogue("waterbirds", folder, samples, _unlisted(folder, samples))


def _sample(folder: Path, line: Line) -> Sample:
    label, place = _name_of(line, "y", CLASSES), _name_of(line, "place", PLACES)
    path = folder / line.values["img_filename"]
    return Sample(path, DOMAIN, label, group=f"{label} {place}", part=_name_of(line, "split", PARTS))


def _name_of(line: Line, column: str, names: Sequence[str]) -> str:
    """The name for a number in a column."""
    return names[int(line.choice(column, [str(index) for index in range(len(names))]))]


def _unlisted(folder: Path, samples: Sequence[Sample]) -> list[LeftOut]:
    listed = {sample.path for sample in samples}
    pictures = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return [(path, "not in metadata.csv") for path in pictures if path not in listed]
