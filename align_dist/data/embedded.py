"""A benchmark made in seconds from images in pip packages: digits on plates over photographs.

Handwritten digits (scikit-learn) are drawn on opaque plates over photographs and textures (scikit-learn,
scikit-image). In domain `biased` the background correlates with the class; in `shuffled` the background is random, in
`reversed` it correlates with the wrong class, and in `novel` it is new. The plate is the true mask.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from align_dist.config.sections import USUAL_AGREEMENT
from align_dist.data.scenes import compose, crop_background
from align_dist.errors import DataError, MachineError
from align_dist.files import read_json, unwritable

DOMAINS = ("biased", "novel", "reversed", "shuffled")
CLASSES = tuple(str(digit) for digit in range(10))
BIASED_DIGITS = 1200
MARKER = "embedded.json"
_VERSION = 1
_SKLEARN, _SKIMAGE = "sklearn.datasets.images", "skimage.data"

# (package, file, tint): grey images are coloured from black through the tint to white.
Source = tuple[str, str, str | None]
CLASS_SOURCES: tuple[Source, ...] = (
    (_SKIMAGE, "brick.png", "#b0583c"),
    (_SKIMAGE, "grass.png", "#5f9a3a"),
    (_SKIMAGE, "gravel.png", "#8c86a8"),
    (_SKLEARN, "china.jpg", None),
    (_SKLEARN, "flower.jpg", None),
    (_SKIMAGE, "coffee.png", None),
    (_SKIMAGE, "hubble_deep_field.jpg", None),
    (_SKIMAGE, "ihc.png", None),
    (_SKIMAGE, "chelsea.png", None),
    (_SKIMAGE, "page.png", "#c9a227"),
)
NOVEL_SOURCES: tuple[Source, ...] = (
    (_SKIMAGE, "astronaut.png", None),
    (_SKIMAGE, "rocket.jpg", None),
    (_SKIMAGE, "motorcycle_left.png", None),
    (_SKIMAGE, "retina.jpg", None),
    (_SKIMAGE, "coins.png", "#4f8f8b"),
    (_SKIMAGE, "camera.png", "#7d8ca3"),
)


def is_embedded(root: Path) -> bool:
    """Return whether `root` holds a finished embedded benchmark, with any parameters."""
    return (root / MARKER).is_file()


def check_marker(root: Path, agreement: float) -> None:
    """Raise DataError for an embedded benchmark of another version of align-dist, or with another agreement."""
    marker = read_json(root / MARKER)
    if marker.get("version") != _VERSION:
        raise DataError(f"{root}: made by another version of align-dist; delete it and prepare it again")
    if marker.get("correlation") != agreement:
        raise DataError(
            f"{root}: made with benchmark.agreement {marker.get('correlation')}, not {agreement}; to keep both, set "
            "separate folders benchmark.root=FOLDER and benchmark.betons=FOLDER"
        )


def make_embedded(root: Path, seed: int = 0, size: int = 64, agreement: float = USUAL_AGREEMENT) -> None:
    """Write `<root>/images/<domain>/<class>/*.png` and the same tree of masks in `<root>/masks`.

    size: side of the square images in pixels, at least 32. agreement: share of `biased` images on the background of
    their class (and of `reversed` images on the background of the next class), in [0, 1]. A folder made with the same
    parameters stays as it is, a folder made with other parameters is replaced. Raises DataError for any other folder
    that is not empty.
    """
    if size < 32 or not 0.0 <= agreement <= 1.0:
        raise DataError(f"embedded: size {size}, agreement {agreement}; expected size >= 32 and 0 to 1")
    # Existing folders on disk call the agreement `correlation`.
    marker = {"version": _VERSION, "seed": seed, "size": size, "correlation": agreement}
    if read_json(root / MARKER) == marker:
        return
    if root.exists() and not is_embedded(root) and any(root.iterdir()):
        raise DataError(f"{root}: not empty and not made by align-dist; choose another folder")
    partial = root.with_name(f"{root.name}.partial{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        _write_all(partial, seed, size, agreement)
        (partial / MARKER).write_text(json.dumps(marker))
        _move_into_place(partial, root, marker)
    except OSError as error:
        raise unwritable(root, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def background_class(rng: np.random.Generator, domain: str, label: int, agreement: float) -> int:
    """Index of an image's background in CLASS_SOURCES, or in NOVEL_SOURCES for `novel`."""
    if domain == "novel":
        return int(rng.integers(len(NOVEL_SOURCES)))
    if domain == "shuffled":
        return int(rng.integers(len(CLASSES)))
    favourite = label if domain == "biased" else (label + 1) % len(CLASSES)
    if rng.random() < agreement:
        return favourite
    return (favourite + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)


def digit_instances(seed: int, count: int) -> dict[str, list[int]]:
    """Digit instances of each domain, out of `count`; no instance of `biased` is in another domain."""
    order = np.random.default_rng([seed, len(DOMAINS)]).permutation(count).tolist()
    biased, others = order[:BIASED_DIGITS], order[BIASED_DIGITS:]
    return {domain: biased if domain == "biased" else others for domain in DOMAINS}


def _write_all(folder: Path, seed: int, size: int, agreement: float) -> None:
    class_pictures = [_picture(source) for source in CLASS_SOURCES]
    novel_pictures = [_picture(source) for source in NOVEL_SOURCES]
    from sklearn.datasets import load_digits  # after its pictures, whose absence is a one-line error

    digits: Any = load_digits()
    for domain, instances in digit_instances(seed, len(digits.images)).items():
        for label in CLASSES:
            for kind in ("images", "masks"):
                (folder / kind / domain / label).mkdir(parents=True)
        pictures = novel_pictures if domain == "novel" else class_pictures
        for instance in instances:
            rng = np.random.default_rng([seed, DOMAINS.index(domain), instance])
            label_index = int(digits.target[instance])
            picture = pictures[background_class(rng, domain, label_index, agreement)]
            background = crop_background(rng, picture, size)
            image, mask = compose(rng, background, digits.images[instance] / 16.0)
            name = f"{domain}/{label_index}/digit_{instance:04d}.png"
            _save(folder / "images" / name, image)
            _save(folder / "masks" / name, mask)


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(pixels).save(path, compress_level=1)


def _picture(source: Source) -> Image.Image:
    package, name, tint = source
    try:
        with (files(package) / name).open("rb") as stream:
            picture = Image.open(stream)
            picture.load()
    except (ModuleNotFoundError, FileNotFoundError):
        owner = "scikit-image" if package == _SKIMAGE else "scikit-learn"
        raise MachineError(
            f"{package}/{name}: an image that ships with {owner} is missing; run `bash launch/install.sh`"
        ) from None
    if tint is None:
        return picture.convert("RGB")
    grey = ImageOps.autocontrast(picture.convert("L"), cutoff=1)
    return ImageOps.colorize(grey, "black", "white", mid=tint)


def _move_into_place(partial: Path, root: Path, marker: object) -> None:
    """Rename the finished folder to `root`, unless another process was first with the same parameters."""
    if read_json(root / MARKER) not in ({}, marker):
        shutil.rmtree(root)
    try:
        partial.rename(root)
    except OSError:
        if read_json(root / MARKER) != marker:
            raise
