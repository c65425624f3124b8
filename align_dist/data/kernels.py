"""Compiled operations on the pixels of one image: crop and resize in one pass, then colours, on planes of bytes.

The colour operations are torchvision's on uint8 images, each rounded down to integers as in torchvision:
https://pytorch.org/vision/stable/transforms.html. Loops over a plane are float32 without branches, so that LLVM
vectorises them; sums over an image are integer sums, so that their order does not matter.

Strict floating point (no fastmath): any number of threads must give the same bytes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from align_dist.data.augmentation import GREYSCALE, JITTER, uniform
from align_dist.data.compiling import compiled

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]
Taps = tuple[NDArray[np.int64], Plane]

# Taps that `gather` unrolls, enough for a resize to more than two thirds of the size.
UNROLLED = 3
NONE, HALF, ONE, TWO, FOUR, SIX = (np.float32(value) for value in (0.0, 0.5, 1.0, 2.0, 4.0, 6.0))
RED_AT, GREEN_AT, BLUE_AT = np.float32(5.0), np.float32(3.0), np.float32(1.0)
WHITE = np.float32(255.0)
# Luma of ITU-R BT.601, as torchvision's rgb_to_grayscale.
RED, GREEN, BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)


@compiled
def filter_taps(start: float, extent: float, limit: int, size: int, mirrored: bool) -> Taps:
    """First source pixel (size,) and weights (taps, size) that resize [start, start + extent) of `limit` pixels.

    A triangle filter as wide as an output pixel, no narrower than a source pixel: Pillow's and torchvision's
    antialiased bilinear filter (https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c).
    """
    step = extent / size
    support = max(step, 1.0)
    taps = max(UNROLLED, math.ceil(2.0 * support))
    first, weights = np.empty(size, np.int64), np.zeros((taps, size), np.float32)
    for place in range(size):
        centre = start + (place + 0.5) * step
        low, high = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), limit)
        base = max(min(low, limit - taps), 0)
        total = 0.0
        for source in range(low, high):
            total += max(1.0 - abs(source + 0.5 - centre) / support, 0.0)
        target = size - 1 - place if mirrored else place
        first[target] = base
        for source in range(low, high):
            weights[source - base, target] = max(1.0 - abs(source + 0.5 - centre) / support, 0.0) / total
    return first, weights


@compiled
def reduction(box: int, size: int) -> int:
    """The largest JPEG reduction (1, 2, 4 or 8) that leaves a crop of `box` pixels no smaller than the output."""
    factor = 1
    while factor < 8 and box >= 2 * factor * size:
        factor *= 2
    return factor


@compiled
def mix_rows(rows: Pixels, first: int, weights: Plane, low: int, line: Plane) -> None:
    """line (N,) <- weighted sum of rows (H, W) from row `first` on, columns from `low` on. weights: (taps,)."""
    end = low + len(line)
    # Slices, so that every index starts at 0: LLVM does not vectorise where an index might be negative.
    row, weight = rows[first][low:end], weights[0]
    for i in range(len(line)):
        line[i] = weight * np.float32(row[i])
    for tap in range(1, min(len(weights), len(rows))):
        row, weight = rows[first + tap][low:end], weights[tap]
        for i in range(len(line)):
            line[i] += weight * np.float32(row[i])


@compiled
def gather(line: Plane, first: NDArray[np.int64], weights: Plane, stride: int, target: Pixels) -> None:
    """target (S,) <- rounded weighted sums of the values of `line` from first[x] on, `stride` apart."""
    for x in range(len(target)):
        at = first[x]
        value = weights[0, x] * line[at] + weights[1, x] * line[at + stride] + weights[2, x] * line[at + 2 * stride]
        for tap in range(UNROLLED, len(weights)):
            value += weights[tap, x] * line[at + tap * stride]
        target[x] = np.uint8(np.int32(value + HALF))


@compiled
def resize_box(
    picture: Pixels, top: float, left: float, height: float, width: float, mirrored: bool, planes: Pixels
) -> None:
    """planes (C, S, S) <- the resized box of an image (H, W, 3), flipped horizontally if `mirrored`.

    C is 1 (the first channel alone) or 3. The box may start and end within a pixel.
    """
    channels, size, _ = planes.shape
    rows = picture.reshape(picture.shape[0], -1)
    first_rows, row_weights = filter_taps(top, height, picture.shape[0], size, False)
    first_columns, column_weights = filter_taps(left, width, picture.shape[1], size, mirrored)
    first_columns *= 3
    low = int(first_columns.min())
    high = min(int(first_columns.max()) + 3 * len(column_weights), rows.shape[1])
    # An image narrower than the filter is padded with zeros of weight 0.
    line = np.zeros(rows.shape[1] + 3 * len(column_weights), np.float32)
    for y in range(size):
        mix_rows(rows, first_rows[y], row_weights[:, y], low, line[low:high])
        for channel in range(channels):
            gather(line[channel:], first_columns, column_weights, 3, planes[channel, y])


@compiled
def clamp_to_byte(value: np.float32) -> np.uint8:
    """A value clamped to [0, 255] and rounded down."""
    rounded: np.uint8 = np.uint8(np.int32(min(max(value, NONE), WHITE)))
    return rounded


@compiled
def luma(red: np.uint8, green: np.uint8, blue: np.uint8) -> np.int32:
    """A pixel's luma, rounded down."""
    rounded: np.int32 = np.int32(RED * np.float32(red) + GREEN * np.float32(green) + BLUE * np.float32(blue))
    return rounded


@compiled
def mean_luma(image: Pixels) -> float:
    """Mean luma over the pixels of an image (3, H, W)."""
    red, green, blue = image[0].reshape(-1), image[1].reshape(-1), image[2].reshape(-1)
    total = np.int64(0)
    for i in range(len(red)):
        total += luma(red[i], green[i], blue[i])
    mean: float = total / len(red)
    return mean


@compiled
def scale(image: Pixels, factor: float, offset: float) -> None:
    """image <- factor * image + offset, in place."""
    values, slope, constant = image.reshape(-1), np.float32(factor), np.float32(offset)
    for i in range(len(values)):
        values[i] = clamp_to_byte(slope * np.float32(values[i]) + constant)


@compiled
def saturate(image: Pixels, factor: float) -> None:
    """image (3, H, W) <- factor * image + (1 - factor) * its luma, in place; factor 0 is greyscale."""
    red, green, blue = image[0].reshape(-1), image[1].reshape(-1), image[2].reshape(-1)
    slope, rest = np.float32(factor), np.float32(1.0 - factor)
    for i in range(len(red)):
        grey = rest * np.float32(luma(red[i], green[i], blue[i]))
        red[i] = clamp_to_byte(slope * np.float32(red[i]) + grey)
        green[i] = clamp_to_byte(slope * np.float32(green[i]) + grey)
        blue[i] = clamp_to_byte(slope * np.float32(blue[i]) + grey)


@compiled
def blend(image: Pixels, kind: int, factor: float) -> None:
    """image (3, H, W) <- factor * image + (1 - factor) * other, in place.

    kind: 0 for black (brightness), 1 for the mean luma (contrast), 2 for each pixel's luma (saturation).
    """
    if kind == 0:
        scale(image, factor, 0.0)
    elif kind == 1:
        scale(image, factor, (1.0 - factor) * mean_luma(image))
    else:
        saturate(image, factor)


@compiled
def hue_to_channel(at: np.float32, hue: np.float32, value: np.float32, chroma: np.float32) -> np.uint8:
    """The value of channel `at` (5, 3, 1 for R, G, B) for a hue in [0, 6): V - C max(0, min(k, 4 - k, 1)).

    k = (at + hue) mod 6. Source: https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative.
    """
    k = at + hue
    k = k - SIX if k >= SIX else k
    rounded: np.uint8 = np.uint8(np.int32(value - chroma * max(NONE, min(k, min(FOUR - k, ONE))) + HALF))
    return rounded


@compiled
def shift_hue(image: Pixels, shift: float) -> None:
    """Rotate the hue of (3, H, W) in place by `shift` of a circle, in [-0.5, 0.5], through HSV as in torchvision."""
    reds, greens, blues = image[0].reshape(-1), image[1].reshape(-1), image[2].reshape(-1)
    turn = np.float32(6.0 * shift)
    for i in range(len(reds)):
        red, green, blue = np.float32(reds[i]), np.float32(greens[i]), np.float32(blues[i])
        value = max(red, max(green, blue))
        chroma = value - min(red, min(green, blue))
        share = ONE / (chroma if chroma > NONE else ONE)
        hue = (red - green) * share + FOUR
        hue = (blue - red) * share + TWO if value == green else hue
        hue = (green - blue) * share if value == red else hue
        hue = hue + turn
        hue = hue + SIX if hue < NONE else hue
        hue = hue - SIX if hue >= SIX else hue
        reds[i] = hue_to_channel(RED_AT, hue, value, chroma)
        greens[i] = hue_to_channel(GREEN_AT, hue, value, chroma)
        blues[i] = hue_to_channel(BLUE_AT, hue, value, chroma)


@compiled
def jitter(image: Pixels, strength: NDArray[np.float64], seed: np.uint64, draw: np.uint64) -> None:
    """Apply torchvision's ColorJitter in place, in random order. strength: brightness, contrast, saturation, hue."""
    remaining = np.arange(4)
    for count in range(4, 0, -1):
        pick = int(uniform(seed, draw, JITTER + count) * count)
        operation = remaining[pick]
        remaining[pick] = remaining[count - 1]
        amount = (2.0 * uniform(seed, draw, JITTER + 8 + operation) - 1.0) * strength[operation]
        if amount == 0.0:
            continue
        if operation == 3:
            shift_hue(image, amount)
        else:
            blend(image, operation, 1.0 + amount)


@compiled
def colour(image: Pixels, strength: NDArray[np.float64], grey_share: float, seed: np.uint64, draw: np.uint64) -> None:
    """Jitter colours in place, then convert to greyscale with probability `grey_share`."""
    jitter(image, strength, seed, draw)
    if uniform(seed, draw, GREYSCALE) < grey_share:
        blend(image, 2, 0.0)
