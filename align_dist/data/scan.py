"""The first pass over a benchmark's pictures: each read once, hashed and fully decoded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from align_dist.data.catalogue import Sample
from align_dist.data.duplicates import content_hash, difference_hash
from align_dist.data.progress import progress

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Scanned:
    """What one picture is. pixels: how many it is stored with. trouble: why it is unusable, or None."""

    digest: str
    difference: NDArray[np.uint64]
    pixels: int
    trouble: str | None = None


def decode_image(data: bytes, max_side: int) -> Pixels:
    """(H, W, 3) pixels, upright by their EXIF orientation, the longer side at most `max_side`.

    Raises what Pillow raises for bytes that are no picture or end too early.
    """
    return np.asarray(_shrink(_upright(data).convert("RGB"), max_side, Image.Resampling.LANCZOS))


def decode_mask(data: bytes, max_side: int) -> Pixels:
    """(H, W, 3) pixels of three equal channels, 0 for background to 255 for the object."""
    return np.asarray(_shrink(_upright(data).convert("L"), max_side, Image.Resampling.BOX).convert("RGB"))


def scan(samples: Sequence[Sample], max_side: int, workers: int) -> list[Scanned]:
    """Scans all samples in parallel threads (Pillow and hashlib release the interpreter's lock)."""
    results: list[Scanned] = []
    with (
        progress("reading", len(samples)) as report,
        ThreadPoolExecutor(workers) as pool,
    ):
        # In slices, so that an interrupt does not wait for the whole benchmark.
        for start in range(0, len(samples), 256):
            part = samples[start : start + 256]
            results += pool.map(lambda sample: scan_one(sample, max_side), part)
            report(len(results))
    return results


def scan_one(sample: Sample, max_side: int) -> Scanned:
    """Reads and decodes one picture and its mask; what is wrong with them is said, not raised."""
    nothing = np.zeros(4, dtype=np.uint64)
    try:
        data = sample.path.read_bytes()
        pixels = decode_image(data, max_side)
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, DecompressionBombError and others.
    except Exception as error:
        return Scanned("", nothing, 0, _one_line(error))
    trouble = None if sample.mask is None else _mask_trouble(sample.mask, data)
    return Scanned(content_hash(data), difference_hash(pixels), pixels.shape[0] * pixels.shape[1], trouble)


def _mask_trouble(path: Path, image: bytes) -> str | None:
    try:
        mask = _upright(path.read_bytes()).convert("L")
    except Exception as error:
        return f"its mask {path}: {_one_line(error)}"
    expected = _upright(image).size
    if mask.size != expected:
        return f"its mask {path} is {mask.size[0]}x{mask.size[1]}, the image {expected[0]}x{expected[1]}"
    if np.asarray(mask).max() == 1:
        return f"its mask {path} has values 0 and 1, expected 0 to 255"
    return None


def _upright(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return ImageOps.exif_transpose(picture)


def _shrink(picture: Image.Image, max_side: int, resampling: Image.Resampling) -> Image.Image:
    ratio = max_side / max(picture.size)
    if ratio >= 1:
        return picture
    width, height = (max(round(side * ratio), 1) for side in picture.size)
    return picture.resize((width, height), resampling)


def _one_line(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own words name an object in memory
        return "no picture of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
