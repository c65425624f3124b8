"""Which values of mask files are the object, decided once for a whole benchmark.

People keep masks as 0 and 255, as 0 and 1, as class indices in grey or with a palette (VOC: 255 is void), with soft
edges, with 16 bits, or as the opacity of a cut-out. One file alone often does not say which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from align_dist.data.masks import LEVEL, MaskFound, MaskReading, listed
from align_dist.errors import DataError

MaskValues = Literal["auto", "index", "soft"] | tuple[int, ...]
VOID = 255
LARGEST_INDEX = 63  # larger grey values may be levels of grey, and then somebody has to say
_SOFT_VALUES = 24  # VOC's classes, spread over the grey levels to be seen, are fewer
_NOISE = 32  # how far from 0 and 255 a lossy format moves them
OPTION = "say which with benchmark.mask_values, which takes index, soft or the object's values such as [8,12]"


def decide_reading(names: Sequence[str], found: Sequence[MaskFound], asked: MaskValues = "auto") -> MaskReading:
    """How all masks of a benchmark are read; names: of their files, for errors.

    index: whatever is not 0 is the object, but 255 (void) is background where there are other indices. soft: values
    are shares of the object. A list: these values, as they are stored. auto: opacity where an alpha channel says
    something; else index or soft, by all values of all masks. Raises DataError, with a file's name, for what stays
    ambiguous, for masks that do not go together and where no mask has an object.
    """
    if len(set(b"".join(mask.opacity for mask in found))) > 1 and asked == "auto":
        _refuse(names, [not mask.opacity for mask in found], "has no alpha channel, where other masks have the object")
        return MaskReading(None, opacity=True)
    _refuse(names, [mask.kind == "colour" for mask in found], "is coloured; save it as grey values or with a palette")
    if isinstance(asked, tuple):
        return _listed_values(names, found, asked)
    palettes = [mask.kind == "palette" for mask in found]
    if asked == "soft":
        _refuse(names, palettes, "has a palette, whose indices are no shares of the object; drop benchmark.mask_values")
    odd = [asked == "auto" and mask.kind == "palette" and any(mask.ground) for mask in found]
    _refuse(names, odd, f"has a palette that does not show index 0 as black, so it may be no background; {OPTION}")
    deep = any(mask.kind == "deep" for mask in found)
    held = sorted(set(b"".join(mask.values for mask in found)) - {0})
    if not held:
        raise DataError(f"{names[0]} and all {len(names):,} masks are empty (0 everywhere); check the masks folder")
    divisor = LEVEL if deep else 1
    kind = _kind_of(held, any(palettes)) if asked == "auto" else asked
    if kind == "soft":
        return MaskReading(None, divisor=divisor)
    if kind != "index":
        doubtful = [bool(set(mask.values) - {0, VOID}) for mask in found]
        _refuse(names, doubtful, f"holds values {listed(held)}, which are neither clearly indices nor soft; {OPTION}")
    return MaskReading(_indices(names, found, held), divisor=divisor)


def _kind_of(held: Sequence[int], palettes: bool) -> Literal["index", "soft", "unclear"]:
    """held: the values above 0 of all masks, ascending."""
    indices = [value for value in held if value != VOID]
    if len(held) == 1 or palettes or indices[-1] <= LARGEST_INDEX:
        return "index"
    quarters = {value // 64 for value in indices}
    lossy = all(value < _NOISE or value > VOID - _NOISE for value in held)
    return "soft" if lossy or (len(held) > _SOFT_VALUES and len(quarters) == 4) else "unclear"


def _indices(names: Sequence[str], found: Sequence[MaskFound], held: Sequence[int]) -> tuple[int, ...]:
    indices = tuple(value for value in held if value != VOID)
    if not indices:
        return (VOID,)
    alone = [set(mask.values) - {0} == {VOID} for mask in found]
    _refuse(names, alone, f"holds 255 and no other value, where other masks hold {listed(indices)}; {OPTION}")
    return indices


def _listed_values(names: Sequence[str], found: Sequence[MaskFound], asked: tuple[int, ...]) -> MaskReading:
    held = set(b"".join(mask.values for mask in found))
    if not held & set(asked) and not any(mask.kind == "deep" for mask in found):
        raise DataError(
            f"{names[0]} and all {len(names):,} masks hold none of benchmark.mask_values={list(asked)}; "
            f"they hold {listed(sorted(held))}"
        )
    return MaskReading(asked)


def _refuse(names: Sequence[str], wrong: Sequence[bool], why: str) -> None:
    """Raises DataError with the first name that is wrong, if any is."""
    if any(wrong):
        raise DataError(f"{names[wrong.index(True)]}: {why} ({sum(wrong):,} of {len(names):,} masks)")
