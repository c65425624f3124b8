"""The picture files among what a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from align_dist.data.folders import IMAGE_SUFFIXES
from align_dist.errors import DataError


def find_pictures(places: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Each picture file once, in order, with a name for what is made of it: its path below the place it was found in,
    without the suffix.

    A file counts whatever its suffix is; of a folder the files with a picture's suffix do, at any depth. Raises
    DataError for a place that does not exist, a folder without pictures, and two files of one name.
    """
    pictures: dict[Path, Path] = {}
    for place in places:
        for path, name in _pictures_in(place):
            if pictures.setdefault(name, path).resolve() != path.resolve():
                raise DataError(f"{path}: what is made of it would overwrite that of {pictures[name]}; rename one")
    return [(path, name) for name, path in pictures.items()]


def _pictures_in(place: Path) -> list[tuple[Path, Path]]:
    if place.is_dir():
        paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        if not paths:
            raise DataError(f"{place}: a folder without pictures; name one that holds some")
        return [(path, path.relative_to(place).with_suffix("")) for path in paths]
    if not place.is_file():
        raise DataError(f"{place}: no such file or folder; check the path")
    return [(place, Path(place.stem))]
