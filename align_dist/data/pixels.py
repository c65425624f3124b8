"""From a picture file's bytes, whatever mode it is stored in, to pixels of red, green and blue."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]
# What viewers and browsers show behind transparent pixels; on black, the usual hidden colour, line art would vanish.
GROUND = (255, 255, 255, 255)
FRAMES = "hold several frames, of which the first is used"
TRANSPARENT = "have transparent pixels, which are laid over white"


def open_picture(data: bytes) -> Image.Image:
    """The picture, its first frame decoded. Raises what Pillow raises for bytes that are none or end too early."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def reason_of(error: Exception) -> str:
    """Why a picture could not be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):  # its own words name an object in memory
        return "no picture of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def decode_image(data: bytes, max_side: int) -> Pixels:
    """(H, W, 3) pixels, upright by their EXIF orientation, the longer side at most `max_side`.

    Raises as `open_picture` does, and ValueError for values of an unknown range.
    """
    return image_pixels(open_picture(data), max_side)


def image_pixels(picture: Image.Image, max_side: int) -> Pixels:
    """`decode_image` of an opened picture."""
    return np.asarray(shrink(to_rgb(upright(picture)), max_side, Image.Resampling.LANCZOS))


def remarks_on(picture: Image.Image) -> tuple[str, ...]:
    """What somebody should know of how an opened picture is read, in words that follow "so many pictures"."""
    # A telephone's JPEG holds a second frame, the preview.
    several = getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO"
    opacity = _opacity(picture)
    clear = opacity is not None and opacity.min() < 255
    return (FRAMES,) * several + (TRANSPARENT,) * bool(clear)


def upright(picture: Image.Image) -> Image.Image:
    """Turned as EXIF says that the camera was held."""
    return ImageOps.exif_transpose(picture)


def shrink(picture: Image.Image, max_side: int, resampling: Image.Resampling) -> Image.Image:
    """The longer side at most `max_side`, never enlarged."""
    ratio = max_side / max(picture.size)
    if ratio >= 1:
        return picture
    width, height = (max(round(side * ratio), 1) for side in picture.size)
    return picture.resize((width, height), resampling)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits or floating point scaled by its range; transparent pixels laid over white.

    The range of 16 bits is 0 to 65535; of the others it is the smaller of two usual ones that holds all values.
    Pillow's own conversion cuts the former off at 255 and shows the colours that the latter hide.
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
    """(H, W), 0 to 255; None where all pixels are opaque by their mode."""
    hidden = picture.info.get("transparency")
    if picture.mode.startswith("I;16") and hidden is not None:
        return np.where(np.asarray(picture) == hidden, 0, 255).astype(np.uint8)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or (picture.mode in ("1", "L", "P", "RGB") and hidden is not None):
        return np.asarray(picture.convert("RGBA"))[..., 3]
    return None


def _grey_bytes(values: NDArray[np.generic], mode: str) -> Pixels:
    """(H, W) values as grey levels 0 to 255. Raises ValueError for a range that is none of those known."""
    grey = values.astype(np.float64)
    low, high = float(grey.min()), float(grey.max())
    tops = {"I": (255.0, 65535.0), "F": (1.0, 255.0)}.get(mode, (65535.0,))
    # A comparison with NaN is false.
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        known = " or ".join(f"0 to {top:g}" for top in tops)
        raise ValueError(f"grey values from {low:g} to {high:g}, expected {known}; save it with 8 or 16 bits")
    return np.rint(grey * (255.0 / top)).astype(np.uint8)
