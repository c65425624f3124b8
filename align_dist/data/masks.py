"""Reading mask files, and converting their values to masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from align_dist.data.pixels import Pixels, open_image, shrink, upright

_COLOUR_NOISE = 8
SIXTEEN_TO_EIGHT = 257  # 65535 / 255


@dataclass(frozen=True)
class MaskContent:
    """The content of one mask file.

    values: distinct values, ascending; scaled from 16 to 8 bits where a value is above 255. opacity: distinct values of
    the alpha channel; empty without an alpha channel. kind: `palette` (values are indices), `grey`, `deep` (16 bits,
    some values above 255) or `colour`. ground: the palette's colour of index 0.
    """

    kind: Literal["palette", "grey", "deep", "colour"]
    values: bytes
    opacity: bytes
    ground: tuple[int, ...] = (0, 0, 0)


@dataclass(frozen=True)
class MaskReading:
    """A way of reading masks. objects: values of the object; None where values are shares of the object, 0 to 255.

    opacity: whether the alpha channel is the mask. divisor: of 16-bit values.
    """

    objects: tuple[int, ...] | None
    opacity: bool = False
    divisor: int = 1

    def __str__(self) -> str:
        """The way of reading masks in one line."""
        if self.objects is None:
            return f"masks: {'opacity' if self.opacity else 'values'} 0 to 255, the object's share of each pixel"
        return f"masks: {values_text(self.objects)} is the object, any other value background"


def inspect_mask(picture: Image.Image) -> MaskContent:
    """The content of an opened mask file."""
    opacity = _distinct(_opacity(picture)) if picture.mode in ("RGBA", "LA") else b""
    values = _values(picture)
    if values is None:
        return MaskContent("colour", b"", opacity)
    if values.max(initial=0) > 255:
        return MaskContent("deep", _distinct(_levels(values)), opacity)
    if picture.mode == "P":
        palette = picture.getpalette("RGB") or []
        return MaskContent("palette", _distinct(values), opacity, tuple(palette[:3]))
    return MaskContent("grey", _distinct(values), opacity)


def decode_mask(data: bytes, max_side: int, reading: MaskReading) -> Pixels:
    """Decode a mask to (H, W, 3) pixels of three equal channels, 0 (background) to 255 (object)."""
    mask = shrink(Image.fromarray(mask_of(open_image(data), reading)), max_side, Image.Resampling.BOX)
    return np.asarray(mask.convert("RGB"))


def mask_of(picture: Image.Image, reading: MaskReading) -> Pixels:
    """The mask (H, W) in an opened mask file, upright, 0 (background) to 255 (object).

    Raises ValueError for a coloured mask, and for a missing alpha channel where the alpha channel is the mask.
    """
    upright_picture = upright(picture)
    values = _opacity(upright_picture) if reading.opacity else _values(upright_picture)
    if values is None:
        raise ValueError("a coloured mask, expected grey values, a palette or an alpha channel")
    if reading.divisor > 1 and upright_picture.mode.startswith("I"):
        values = _levels(values)
    if reading.objects is None:
        return values.astype(np.uint8)
    return np.where(np.isin(values, reading.objects), 255, 0).astype(np.uint8)


def values_text(values: Sequence[int]) -> str:
    """A short list of values for messages."""
    if len(values) > 6:
        return f"{values[0]}, {values[1]} … {values[-1]} ({len(values)} values)"
    return ", ".join(map(str, values))


def _opacity(picture: Image.Image) -> NDArray[np.generic]:
    if picture.mode not in ("RGBA", "LA"):
        raise ValueError(f"a mask without the alpha channel that other masks have (mode {picture.mode})")
    return np.asarray(picture)[..., -1]


def _values(picture: Image.Image) -> NDArray[np.generic] | None:
    """Grey values or palette indices (H, W); None for a coloured mask."""
    if picture.mode == "F":
        raise ValueError("a mask in floating point, expected 8 or 16 bits")
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    values = np.asarray(picture)
    if values.ndim == 2:
        return values
    if picture.mode == "LA":
        return values[..., 0]
    if picture.mode not in ("RGB", "RGBA"):
        return None
    colours = values[..., :3].astype(np.int16)
    return None if np.ptp(colours, axis=2).max(initial=0) > _COLOUR_NOISE else values[..., 1]


def _levels(values: NDArray[np.generic]) -> Pixels:
    return np.rint(values.astype(np.float64) / SIXTEEN_TO_EIGHT).clip(0, 255).astype(np.uint8)


def _distinct(values: NDArray[np.generic]) -> bytes:
    return np.flatnonzero(np.bincount(values.ravel().astype(np.int64), minlength=256)).astype(np.uint8).tobytes()
