"""The values of mask files that stand for the object, decided once for a whole benchmark.

Masks are stored as 0 and 255, as 0 and 1, as class indices in grey or with a palette (VOC: 255 is void), with soft
edges, with 16 bits, or as the opacity of a cut-out. A single file is often ambiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from align_dist.data.masks import SIXTEEN_TO_EIGHT, MaskContent, MaskReading, values_text
from align_dist.errors import DataError

MaskValues = Literal["auto", "index", "soft"] | tuple[int, ...]
VOID = 255
LARGEST_INDEX = 63  # larger grey values may be grey levels, and the user must decide
_SOFT_VALUES = 24  # more than VOC's classes when spread over all grey levels for display
_NOISE = 32  # largest change of 0 and 255 by a lossy format
OPTION = "set benchmark.mask_values to index, soft or a list of the object's values such as [8,12]"


def decide_reading(names: Sequence[str], scans: Sequence[MaskContent], mask_values: MaskValues = "auto") -> MaskReading:
    """The way of reading all masks of a benchmark. names: of the mask files, for errors.

    index: every value but 0 is the object, except 255 (void) beside other indices. soft: values are shares of the
    object. A list: these stored values are the object. auto: opacity where an alpha channel varies; else index or soft,
    from all values of all masks. Raises DataError, with a file's name, for ambiguous masks, for masks of different
    kinds and where no mask has an object.
    """
    if len(set(b"".join(mask.opacity for mask in scans))) > 1 and mask_values == "auto":
        _refuse(names, [not mask.opacity for mask in scans], "has no alpha channel, unlike other masks")
        return MaskReading(None, opacity=True)
    _refuse(names, [mask.kind == "colour" for mask in scans], "is coloured; save it as grey values or with a palette")
    if isinstance(mask_values, tuple):
        return _listed_values(names, scans, mask_values)
    palettes = [mask.kind == "palette" for mask in scans]
    if mask_values == "soft":
        _refuse(
            names, palettes, "has a palette, whose indices are not shares of the object; remove benchmark.mask_values"
        )
    grounds = [mask_values == "auto" and mask.kind == "palette" and any(mask.ground) for mask in scans]
    _refuse(names, grounds, f"has a palette in which index 0 is not black and may not be the background; {OPTION}")
    is_deep = any(mask.kind == "deep" for mask in scans)
    values = sorted(set(b"".join(mask.values for mask in scans)) - {0})
    if not values:
        raise DataError(f"{names[0]} and all {len(names):,} masks are empty (0 everywhere); check the masks folder")
    divisor = SIXTEEN_TO_EIGHT if is_deep else 1
    kind = _kind_of(values, any(palettes)) if mask_values == "auto" else mask_values
    if kind == "soft":
        return MaskReading(None, divisor=divisor)
    if kind != "index":
        unclear = [bool(set(mask.values) - {0, VOID}) for mask in scans]
        _refuse(
            names, unclear, f"holds values {values_text(values)}, which are neither clearly indices nor soft; {OPTION}"
        )
    return MaskReading(_indices(names, scans, values), divisor=divisor)


def _kind_of(values: Sequence[int], palettes: bool) -> Literal["index", "soft", "unclear"]:
    """Return whether masks hold indices or soft values. values: those above 0 of all masks, ascending."""
    indices = [value for value in values if value != VOID]
    if len(values) == 1 or palettes or indices[-1] <= LARGEST_INDEX:
        return "index"
    quarters = {value // 64 for value in indices}
    lossy = all(value < _NOISE or value > VOID - _NOISE for value in values)
    return "soft" if lossy or (len(values) > _SOFT_VALUES and len(quarters) == 4) else "unclear"


def _indices(names: Sequence[str], scans: Sequence[MaskContent], values: Sequence[int]) -> tuple[int, ...]:
    indices = tuple(value for value in values if value != VOID)
    if not indices:
        return (VOID,)
    alone = [set(mask.values) - {0} == {VOID} for mask in scans]
    _refuse(names, alone, f"holds only 255, while other masks hold {values_text(indices)}; {OPTION}")
    return indices


def _listed_values(names: Sequence[str], scans: Sequence[MaskContent], objects: tuple[int, ...]) -> MaskReading:
    values = set(b"".join(mask.values for mask in scans))
    if not values & set(objects) and not any(mask.kind == "deep" for mask in scans):
        raise DataError(
            f"{names[0]} and all {len(names):,} masks hold none of benchmark.mask_values={list(objects)}; "
            f"they hold {values_text(sorted(values))}"
        )
    return MaskReading(objects)


def _refuse(names: Sequence[str], wrong: Sequence[bool], message: str) -> None:
    """Raise DataError with the first name whose flag in `wrong` is set."""
    if any(wrong):
        raise DataError(f"{names[wrong.index(True)]}: {message} ({sum(wrong):,} of {len(names):,} masks)")
