"""The scan of a benchmark's images: each file is read once, hashed and fully decoded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from align_dist.data.bursts import Capture, capture_of
from align_dist.data.catalogue import Sample
from align_dist.data.duplicates import content_hash, difference_hash
from align_dist.data.masks import MaskContent, inspect_mask
from align_dist.data.pixels import image_pixels, open_image, reason_of, remarks_on, upright
from align_dist.data.progress import progress


@dataclass(frozen=True)
class ImageScan:
    """The scan of one image.

    digest: SHA-256. difference: difference hash (4,). pixels: number of stored pixels. error: the reason why the
    image is unusable, or None. capture: camera and time from EXIF, or None. mask: content of the mask file, or None.
    remarks: see `remarks_on`.
    """

    digest: str
    difference: NDArray[np.uint64]
    pixels: int
    error: str | None = None
    capture: Capture | None = None
    mask: MaskContent | None = None
    remarks: tuple[str, ...] = ()


def scan(samples: Sequence[Sample], max_side: int, workers: int) -> list[ImageScan]:
    """Scan all samples in parallel threads (Pillow and hashlib release the interpreter's lock)."""
    results: list[ImageScan] = []
    with (
        progress("reading", len(samples)) as report,
        ThreadPoolExecutor(workers) as pool,
    ):
        # In slices, so that Ctrl-C does not wait for the whole benchmark.
        for start in range(0, len(samples), 256):
            part = samples[start : start + 256]
            results += pool.map(lambda sample: scan_image(sample, max_side), part)
            report(len(results))
    return results


def scan_image(sample: Sample, max_side: int) -> ImageScan:
    """Read and decode one image and its mask; an exception becomes the scan's `error`."""
    zero_hash = np.zeros(4, dtype=np.uint64)
    try:
        data = sample.path.read_bytes()
        picture = open_image(data)
        remarks = remarks_on(picture)
        pixels = image_pixels(picture, max_side)
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, DecompressionBombError and others.
    except Exception as error:
        return ImageScan("", zero_hash, 0, reason_of(error))
    facts = ImageScan(
        content_hash(data),
        difference_hash(pixels),
        pixels.shape[0] * pixels.shape[1],
        capture=capture_of(picture),
        remarks=remarks,
    )
    return facts if sample.mask is None else _with_mask(facts, sample.mask, upright(picture).size)


def _with_mask(facts: ImageScan, path: Path, expected: tuple[int, int]) -> ImageScan:
    try:
        mask = open_image(path.read_bytes())
        mask_content = inspect_mask(mask)
    except Exception as error:
        return replace(facts, error=f"its mask {path}: {reason_of(error)}")
    width, height = upright(mask).size
    if (width, height) != expected:
        return replace(facts, error=f"its mask {path} is {width}x{height}, the image {expected[0]}x{expected[1]}")
    return replace(facts, mask=mask_content)
