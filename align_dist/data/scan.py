"""The scan of a benchmark's images: each file is read once, hashed and fully decoded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from align_dist.data.bursts import Taken, taken_of
from align_dist.data.catalogue import Sample
from align_dist.data.duplicates import content_hash, difference_hash
from align_dist.data.masks import MaskFound, look_at_mask
from align_dist.data.pixels import image_pixels, open_picture, remarks_on, upright
from align_dist.data.progress import progress


@dataclass(frozen=True)
class Scanned:
    """The scan of one image.

    digest: SHA-256. difference: difference hash (4,). pixels: number of stored pixels. trouble: the reason why the
    image is unusable, or None. taken: camera and time from EXIF, or None. mask: content of the mask file, or None.
    remarks: see `remarks_on`.
    """

    digest: str
    difference: NDArray[np.uint64]
    pixels: int
    trouble: str | None = None
    taken: Taken | None = None
    mask: MaskFound | None = None
    remarks: tuple[str, ...] = ()


def scan(samples: Sequence[Sample], max_side: int, workers: int) -> list[Scanned]:
    """Scan all samples in parallel threads (Pillow and hashlib release the interpreter's lock)."""
    results: list[Scanned] = []
    with (
        progress("reading", len(samples)) as report,
        ThreadPoolExecutor(workers) as pool,
    ):
        # In slices, so that Ctrl-C does not wait for the whole benchmark.
        for start in range(0, len(samples), 256):
            part = samples[start : start + 256]
            results += pool.map(lambda sample: scan_one(sample, max_side), part)
            report(len(results))
    return results


def scan_one(sample: Sample, max_side: int) -> Scanned:
    """Read and decode one image and its mask; an error becomes the scan's `trouble`."""
    zero_hash = np.zeros(4, dtype=np.uint64)
    try:
        data = sample.path.read_bytes()
        picture = open_picture(data)
        remarks = remarks_on(picture)
        pixels = image_pixels(picture, max_side)
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, DecompressionBombError and others.
    except Exception as error:
        return Scanned("", zero_hash, 0, _one_line(error))
    facts = Scanned(
        content_hash(data),
        difference_hash(pixels),
        pixels.shape[0] * pixels.shape[1],
        taken=taken_of(picture),
        remarks=remarks,
    )
    return facts if sample.mask is None else _with_mask(facts, sample.mask, upright(picture).size)


def _with_mask(facts: Scanned, path: Path, expected: tuple[int, int]) -> Scanned:
    try:
        mask = open_picture(path.read_bytes())
        mask_content = look_at_mask(mask)
    except Exception as error:
        return replace(facts, trouble=f"its mask {path}: {_one_line(error)}")
    width, height = upright(mask).size
    if (width, height) != expected:
        trouble = f"its mask {path} is {width}x{height}, the image {expected[0]}x{expected[1]}"
        return replace(facts, trouble=trouble)
    return replace(facts, mask=mask_content)


def _one_line(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # Pillow's message names an object in memory
        return "not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
