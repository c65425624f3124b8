"""Drawing of the embedded benchmark's images: a digit on an opaque plate over a crop of a photograph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]

# Side of a crop as a share of the photograph's shorter side, never fewer pixels than the drawn image.
CROP_SCALE = (0.35, 0.9)
PLATE_DIAMETER = (0.50, 0.62)
# Size of the digit's box as a share of the plate's diameter.
DIGIT_REACH = 0.9


def crop_background(rng: np.random.Generator, picture: Image.Image, size: int) -> Plane:
    """A random square crop, flipped half the time, as (size, size, 3) in [0, 255]."""
    shorter = min(picture.size)
    side = min(max(int(rng.uniform(*CROP_SCALE) * shorter), size), shorter)
    left = int(rng.integers(picture.width - side + 1))
    top = int(rng.integers(picture.height - side + 1))
    box = (left, top, left + side, top + side)
    crop = picture.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    pixels = np.asarray(crop, dtype=np.float64)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def compose(rng: np.random.Generator, background: Plane, digit: Plane) -> tuple[Pixels, Pixels]:
    """Draw `digit` (8, 8) in [0, 1] on a plate over `background` (S, S, 3) in [0, 255].

    Returns the image (S, S, 3) and the plate's mask (S, S), 0 or 255.
    """
    size = background.shape[0]
    diameter = rng.uniform(*PLATE_DIAMETER) * size
    row, column = rng.uniform(diameter / 2 + 0.5, size - diameter / 2 - 0.5, size=2)
    rows, columns = np.mgrid[0:size, 0:size] + 0.5
    cover = np.clip(diameter / 2 - np.hypot(rows - row, columns - column) + 0.5, 0.0, 1.0)
    plate, ink = plate_colours(rng)
    image = background + cover[..., None] * (plate - background)
    strokes = place_digit(digit, row, column, diameter, size) * cover
    image += strokes[..., None] * (ink - image)
    return np.rint(image).clip(0, 255).astype(np.uint8), np.where(cover >= 0.5, 255, 0).astype(np.uint8)


def plate_colours(rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Colours of a muted plate and of an ink with strong contrast, (3,) each in [0, 255]."""
    hue = rng.uniform(-28.0, 28.0, size=3)
    dark_ink = rng.random() < 0.5
    plate = (rng.uniform(165.0, 205.0) if dark_ink else rng.uniform(50.0, 90.0)) + hue
    ink = np.full(3, rng.uniform(0.0, 30.0) if dark_ink else rng.uniform(225.0, 255.0))
    return plate, ink


def place_digit(digit: Plane, row: float, column: float, diameter: float, size: int) -> Plane:
    """The digit's strokes (size, size) in [0, 1], scaled to fill the plate around (row, column)."""
    inked_rows, inked_columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    inked = digit[inked_rows[0] : inked_rows[-1] + 1, inked_columns[0] : inked_columns[-1] + 1]
    scale = DIGIT_REACH * diameter / np.hypot(*inked.shape)
    height, width = (max(round(side * scale), 1) for side in inked.shape)
    resized = Image.fromarray(inked.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    top, left = round(row - height / 2), round(column - width / 2)
    strokes = np.zeros((size, size))
    strokes[top : top + height, left : left + width] = np.clip(np.asarray(resized, dtype=np.float64), 0.0, 1.0)
    return strokes
