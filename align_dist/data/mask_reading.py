"""Ways of reading a benchmark's masks, and notes on those of images and masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from align_dist.data.catalogue import Sample
from align_dist.data.mask_values import MaskValues, decide_reading
from align_dist.data.masks import MaskReading
from align_dist.data.scan import ImageScan


def mask_reading(samples: Sequence[Sample], facts: Sequence[ImageScan], mask_values: MaskValues) -> MaskReading | None:
    """The way of reading the masks; None unless every sample has a mask. Raises as `decide_reading` does."""
    masks = [(str(sample.mask), fact.mask) for sample, fact in zip(samples, facts, strict=True)]
    scans = [mask for _, mask in masks if mask is not None]
    return decide_reading([name for name, _ in masks], scans, mask_values) if len(scans) == len(masks) else None


def reading_notes(paths: Sequence[str], facts: Sequence[ImageScan], reading: MaskReading | None) -> tuple[str, ...]:
    """One line per remark on how images are read, with the number of images."""
    first_paths: dict[str, str] = {}
    for path, fact in zip(paths, facts, strict=True):
        for remark in fact.remarks:
            first_paths.setdefault(remark, path)
    counts = Counter(remark for fact in facts for remark in fact.remarks)
    lines = [f"{counts[remark]:,} images {remark} (first: {path})" for remark, path in first_paths.items()]
    return tuple(lines if reading is None else [*lines, str(reading)])
