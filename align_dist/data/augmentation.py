"""Augmentation of one picture, compiled, as a pure function of (seed, pass, sample id).

The distributions are DomainBed's (paper.md section 5.3): random resized crop, horizontal flip, colour
jitter (brightness, contrast, saturation, hue, in random order) and random greyscale, defined as
torchvision defines them: https://pytorch.org/vision/stable/transforms.html. FFCV's own augmentations seed
numba's generators from the system, so equal seeds would give different pixels.

Strict floating point (no fastmath): one thread and many must give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

_F = TypeVar("_F", bound=Callable[..., Any])
Pixels = NDArray[np.uint8]

CROP_TRIES = 10
# Each decision about a picture reads its own counter, so adding one later moves none of the others.
CROP, FLIP, JITTER, GREYSCALE = 0, 64, 80, 96


def compiled(function: _F) -> _F:
    """numba, without the reassociation that FFCV's own compiler allows.

    Nothing is kept on disk: two processes that begin at once can mix up the entries of numba's index.
    """
    return numba.njit(nogil=True, fastmath=False, error_model="numpy", inline="never")(function)  # type: ignore[return-value]


@compiled
def mix(value: np.uint64) -> np.uint64:
    """SplitMix64's finaliser: a bijection of 64-bit integers that scatters neighbours.

    Source: Steele, Lea, Flood 2014, https://doi.org/10.1145/2660193.2660195.
    """
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scattered: np.uint64 = value ^ (value >> np.uint64(31))
    return scattered


@compiled
def uniform(seed: np.uint64, draw: np.uint64, counter: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    key = mix(seed + golden)
    key = mix(key ^ mix(draw + golden))
    key = mix(key + np.uint64(counter + 1) * golden)
    return float(key >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def crop_box(
    height: int, width: int, scale: NDArray[np.float64], ratio: NDArray[np.float64], seed: np.uint64, draw: np.uint64
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of torchvision's RandomResizedCrop: area share in `scale`, aspect in `ratio`."""
    area = height * width
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(CROP_TRIES):
        counter = CROP + 4 * attempt
        target = area * (scale[0] + (scale[1] - scale[0]) * uniform(seed, draw, counter))
        aspect = math.exp(low + (high - low) * uniform(seed, draw, counter + 1))
        box_width = round(math.sqrt(target * aspect))
        box_height = round(math.sqrt(target / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(uniform(seed, draw, counter + 2) * (height - box_height + 1))
            left = int(uniform(seed, draw, counter + 3) * (width - box_width + 1))
            return top, left, box_height, box_width
    box_width = min(width, round(height * ratio[1]))
    box_height = min(height, round(width / ratio[0]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@compiled
def flip(image: Pixels) -> None:
    """Mirrors left and right, in place."""
    height, width, channels = image.shape
    for row in range(height):
        for column in range(width // 2):
            for channel in range(channels):
                kept = image[row, column, channel]
                image[row, column, channel] = image[row, width - 1 - column, channel]
                image[row, width - 1 - column, channel] = kept


@compiled
def _clip(value: float) -> float:
    return min(255.0, max(0.0, value))


@compiled
def _grey(red: float, green: float, blue: float) -> float:
    """Luma of ITU-R BT.601, as torchvision's rgb_to_grayscale."""
    return 0.2989 * red + 0.587 * green + 0.114 * blue


@compiled
def blend(image: Pixels, kind: int, factor: float) -> None:
    """image <- factor * image + (1 - factor) * other, in place.

    `kind` says what the other is: 0 black (brightness), 1 the mean grey (contrast), 2 its own greyscale
    (saturation; factor 0 is greyscale).
    """
    height, width, _ = image.shape
    mean = 0.0
    if kind == 1:
        for row in range(height):
            for column in range(width):
                mean += _grey(image[row, column, 0], image[row, column, 1], image[row, column, 2])
        mean /= height * width
    for row in range(height):
        for column in range(width):
            other = mean
            if kind == 2:
                other = _grey(image[row, column, 0], image[row, column, 1], image[row, column, 2])
            for channel in range(3):
                value = factor * image[row, column, channel] + (1.0 - factor) * other
                image[row, column, channel] = np.uint8(_clip(value))


@compiled
def shift_hue(image: Pixels, shift: float) -> None:
    """Turns the hue by `shift` of a full circle, in [-0.5, 0.5], in place (through HSV, as torchvision)."""
    height, width, _ = image.shape
    for row in range(height):
        for column in range(width):
            red = image[row, column, 0] / 255.0
            green = image[row, column, 1] / 255.0
            blue = image[row, column, 2] / 255.0
            value, low = max(red, green, blue), min(red, green, blue)
            chroma = value - low
            if chroma == 0.0:
                continue
            if value == red:
                hue = ((green - blue) / chroma) % 6.0
            elif value == green:
                hue = (blue - red) / chroma + 2.0
            else:
                hue = (red - green) / chroma + 4.0
            hue = (hue / 6.0 + shift) % 1.0 * 6.0
            for channel in range(3):
                # f(n) = V - C max(0, min(k, 4 - k, 1)), k = (n + H) mod 6, n = 5, 3, 1 for R, G, B.
                k = (5.0 - 2.0 * channel + hue) % 6.0
                share = max(0.0, min(k, 4.0 - k, 1.0))
                image[row, column, channel] = np.uint8((value - chroma * share) * 255.0 + 0.5)


@compiled
def jitter(image: Pixels, strength: NDArray[np.float64], seed: np.uint64, draw: np.uint64) -> None:
    """torchvision's ColorJitter, in place: strengths of brightness, contrast, saturation, hue, random order."""
    remaining = np.arange(4)
    for left in range(4, 0, -1):
        pick = int(uniform(seed, draw, JITTER + left) * left)
        operation = remaining[pick]
        remaining[pick] = remaining[left - 1]
        amount = (2.0 * uniform(seed, draw, JITTER + 8 + operation) - 1.0) * strength[operation]
        if amount == 0.0:
            continue
        if operation == 3:
            shift_hue(image, amount)
        else:
            blend(image, operation, 1.0 + amount)
