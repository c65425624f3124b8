"""How a benchmark's pictures and masks are read, and what somebody should know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from align_dist.data.catalogue import Sample
from align_dist.data.mask_values import MaskValues, decide_reading
from align_dist.data.masks import MaskReading
from align_dist.data.scan import Scanned


def reading_of(samples: Sequence[Sample], facts: Sequence[Scanned], mask_values: MaskValues) -> MaskReading | None:
    """How the masks are read; None where not every sample has one. Raises as `decide_reading` does."""
    masks = [(str(sample.mask), fact.mask) for sample, fact in zip(samples, facts, strict=True)]
    found = [mask for _, mask in masks if mask is not None]
    return decide_reading([name for name, _ in masks], found, mask_values) if len(found) == len(masks) else None


def notes_on(paths: Sequence[str], facts: Sequence[Scanned], reading: MaskReading | None) -> tuple[str, ...]:
    """A line for each way of reading that is not plain, with how many pictures it is of."""
    firsts: dict[str, str] = {}
    for path, fact in zip(paths, facts, strict=True):
        for remark in fact.remarks:
            firsts.setdefault(remark, path)
    counts = Counter(remark for fact in facts for remark in fact.remarks)
    lines = [f"{counts[remark]:,} pictures {remark} (first: {path})" for remark, path in firsts.items()]
    return tuple(lines if reading is None else [*lines, str(reading)])
