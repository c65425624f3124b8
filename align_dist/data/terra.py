"""Terra Incognita directly from the Caltech Camera Traps JSON files (COCO style).

Images and classes are the same as from DomainBed's scripts/download.py. Annotations are indexed
by image, so that reading takes linear time, and bursts (`seq_id`) are kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from align_dist.data.catalogue import Catalogue, LeftOut, Sample, make_catalogue
from align_dist.data.counts import TERRA_CLASSES
from align_dist.data.folders import IMAGE_SUFFIXES, is_set_aside
from align_dist.errors import DataError

LOCATIONS = frozenset({"38", "46", "100", "43"})
WHERE = (
    "get Terra Incognita with DomainBed's scripts/download.py, or the CCT-20 images and annotations "
    "(LILA BC, Caltech Camera Traps), and put the folders there"
)


@dataclass(frozen=True)
class TrapImage:
    """One image of one of the four locations. labels: the image's species among the ten classes, sorted, unique."""

    file_name: str
    location: str
    sequence: str | None
    labels: tuple[str, ...]


def read_annotations(files: Iterable[Path]) -> list[TrapImage]:
    """The images of all files, each once, without images that show none of the ten species.

    Raises DataError for a file that is not COCO-style JSON.
    """
    images: dict[str, TrapImage] = {}
    labels: dict[str, set[str]] = {}
    for path in files:
        try:
            document = json.loads(path.read_bytes())
            names = {category["id"]: category["name"] for category in document["categories"]}
            for entry in document["images"]:
                # int in the CCT-20 files, str in the full release
                location = str(entry["location"])
                if location in LOCATIONS:
                    sequence = entry.get("seq_id")
                    images[str(entry["id"])] = TrapImage(entry["file_name"], location, sequence, ())
            for annotation in document["annotations"]:
                labels.setdefault(str(annotation["image_id"]), set()).add(names[annotation["category_id"]])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not a camera trap annotation file ({error!r}); {WHERE}") from None
    listed_images = []
    for identifier, image in images.items():
        species = tuple(sorted(labels.get(identifier, set()) & set(TERRA_CLASSES)))
        if species:
            listed_images.append(TrapImage(image.file_name, image.location, image.sequence, species))
    return listed_images


def read_terra_json(root: Path) -> Catalogue:
    """Read the JSON files and the images anywhere under `root`.

    An image with two species is a sample of each. Raises DataError without an annotation file or without any annotated
    image on disk, OSError for unreadable files.
    """
    annotation_files, pictures, left_out = _walk(root)
    if not annotation_files:
        raise DataError(f"{root}: contains neither location_38/ nor *_annotations.json; {WHERE}")
    samples: list[Sample] = []
    missing: list[LeftOut] = []
    for image in read_annotations(annotation_files):
        path = root / image.file_name
        file = path if path.is_file() else pictures.get(path.name)
        if file is None or not file.is_file():
            missing.append((path, "annotated, and not on disk"))
            continue
        domain = f"location_{image.location}"
        samples.extend(Sample(file, domain, label, sequence=image.sequence) for label in image.labels)
    if not samples:
        raise DataError(f"{root}: none of the {len(missing):,} annotated images is on disk; {WHERE}")
    used_names = {sample.path.name for sample in samples} | {path.name for path, _ in missing}
    others = [path for name, path in pictures.items() if name not in used_names]
    left_out += missing + [(path, "not in the ten classes and four locations") for path in others]
    return make_catalogue("terra_incognita", root, samples, left_out)


def _walk(root: Path) -> tuple[list[Path], dict[str, Path], list[LeftOut]]:
    """The annotation files, the images by file name, and the files left out, from one walk over the tree."""
    annotation_files, pictures = list[Path](), dict[str, Path]()
    left_out: list[LeftOut] = []
    for folder, names in _folders_below(root):
        for name in names:
            path = Path(folder, name)
            if name.startswith("."):
                left_out += [(path, "hidden")] if path.suffix.lower() in IMAGE_SUFFIXES else []
            elif fnmatch(name, "*_annotations.json") or fnmatch(name, "caltech_images*.json"):
                annotation_files.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES and pictures.setdefault(name, path) != path:
                left_out.append((path, "with the same name as another image"))
    return annotation_files, pictures, left_out


def _folders_below(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder once, including linked folders, with the sorted names of its files."""
    visited: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, onerror=_refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not is_set_aside(name))
        yield folder, sorted(names)


def _refuse(error: OSError) -> None:
    raise error
