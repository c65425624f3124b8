"""Decoding image files of any mode to RGB pixels."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]
# The usual background of transparent pixels in viewers and browsers. On black, line art would vanish.
GROUND = (255, 255, 255, 255)
FRAMES = "hold several frames, of which only the first is used"
TRANSPARENT = "have transparent pixels, which are placed on white"


def open_image(data: bytes) -> Image.Image:
    """Open an image and decode its first frame. Raises Pillow's errors for bytes that are not an image or truncated."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def reason_of(error: Exception) -> str:
    """The reason for which an image could not be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):  # Pillow's message names an object in memory
        return "not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def decode_image(data: bytes, max_side: int) -> Pixels:
    """Decode an image to pixels (H, W, 3), upright by EXIF orientation, the longer side at most `max_side`.

    Raises as `open_image` does, and ValueError for values of an unknown range.
    """
    return image_pixels(open_image(data), max_side)


def image_pixels(picture: Image.Image, max_side: int) -> Pixels:
    """`decode_image` for an opened image."""
    return np.asarray(shrink(to_rgb(upright(picture)), max_side, Image.Resampling.LANCZOS))


def remarks_on(picture: Image.Image) -> tuple[str, ...]:
    """Remarks on how an opened image is read, as predicates that follow "3 images"."""
    # A phone's JPEG holds a preview as a second frame.
    has_frames = getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO"
    opacity = _opacity(picture)
    is_transparent = opacity is not None and opacity.min() < 255
    return (FRAMES,) * has_frames + (TRANSPARENT,) * bool(is_transparent)


def upright(picture: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF orientation."""
    return ImageOps.exif_transpose(picture)


def shrink(picture: Image.Image, max_side: int, resampling: Image.Resampling) -> Image.Image:
    """Shrink an image to a longer side of at most `max_side`; smaller images stay unchanged."""
    ratio = max_side / max(picture.size)
    if ratio >= 1:
        return picture
    width, height = (max(round(side * ratio), 1) for side in picture.size)
    return picture.resize((width, height), resampling)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert to RGB, with 16-bit, 32-bit and floating-point grey scaled by range, and transparent pixels on white.

    The range of 16 bits is 0 to 65535; for 32 bits and floating point it is the smaller of two usual ranges that holds
    all values. Pillow's conversion clips grey at 255 and shows the hidden colours of transparent pixels.
    """
    opacity = _opacity(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        grey = _grey_bytes(np.asarray(picture), picture.mode)
        if opacity is not None:
            grey[opacity == 0] = 255
        return Image.fromarray(grey).convert("RGB")
    if opacity is None:
        return picture.convert("RGB")
    ground = Image.new("RGBA", picture.size, GROUND)
    ground.alpha_composite(picture.convert("RGBA"))
    return ground.convert("RGB")


def _opacity(picture: Image.Image) -> Pixels | None:
    """Opacity (H, W), 0 to 255; None for a mode without transparency."""
    hidden = picture.info.get("transparency")
    if picture.mode.startswith("I;16") and hidden is not None:
        return np.where(np.asarray(picture) == hidden, 0, 255).astype(np.uint8)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or (picture.mode in ("1", "L", "P", "RGB") and hidden is not None):
        return np.asarray(picture.convert("RGBA"))[..., 3]
    return None


def _grey_bytes(values: NDArray[np.generic], mode: str) -> Pixels:
    """Values (H, W) as grey levels 0 to 255. Raises ValueError for an unknown range."""
    grey = values.astype(np.float64)
    low, high = float(grey.min()), float(grey.max())
    tops = {"I": (255.0, 65535.0), "F": (1.0, 255.0)}.get(mode, (65535.0,))
    # A comparison with NaN is false.
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        known = " or ".join(f"0 to {top:g}" for top in tops)
        raise ValueError(f"grey values from {low:g} to {high:g}, expected {known}; save it with 8 or 16 bits")
    return np.rint(grey * (255.0 / top)).astype(np.uint8)
