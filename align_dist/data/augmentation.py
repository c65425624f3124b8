"""Random parameters of the augmentation of one image, a compiled pure function of (seed, pass, sample id).

`kernels` applies the augmentation. The distributions are DomainBed's: random resized crop,
horizontal flip, colour jitter (brightness, contrast, saturation, hue, in random order) and random greyscale, as in
torchvision: https://pytorch.org/vision/stable/transforms.html. FFCV's own augmentations seed numba's generators from
the system, so equal seeds would give different pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from align_dist.config import AugmentationConfig
from align_dist.data.compiling import compiled
from align_dist.data.sample_keys import PASS_SHIFT

CROP_TRIES = 10
# Each random decision about an image has its own counter, so that a later addition changes no other decision.
CROP, FLIP, JITTER, GREYSCALE = 0, 64, 80, 96


def numbers_of(augmentation: AugmentationConfig) -> NDArray[np.float64]:
    """All settings of an augmentation, in the order that compiled functions take: (10,)."""
    crop = (*augmentation.crop_scale, *augmentation.crop_ratio)
    return np.array([*crop, *augmentation.jitter, augmentation.flip, augmentation.greyscale])


@compiled
def mix(value: np.uint64) -> np.uint64:
    """Mix bits with SplitMix64's finaliser, a bijection of 64-bit integers.

    Source: Steele, Lea, Flood 2014, https://doi.org/10.1145/2660193.2660195.
    """
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.uint64 = value ^ (value >> np.uint64(31))
    return mixed


@compiled
def uniform(seed: np.uint64, draw: np.uint64, counter: int) -> float:
    """A pseudorandom number in [0, 1), a pure function of its arguments. draw: a sample key."""
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
        target_area = area * (scale[0] + (scale[1] - scale[0]) * uniform(seed, draw, counter))
        aspect = math.exp(low + (high - low) * uniform(seed, draw, counter + 1))
        box_width = round(math.sqrt(target_area * aspect))
        box_height = round(math.sqrt(target_area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(uniform(seed, draw, counter + 2) * (height - box_height + 1))
            left = int(uniform(seed, draw, counter + 3) * (width - box_width + 1))
            return top, left, box_height, box_width
    box_width = min(width, round(height * ratio[1]))
    box_height = min(height, round(width / ratio[0]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@compiled
def view_of(
    height: int, width: int, augmentation: NDArray[np.float64], seed: np.uint64, draw: np.uint64
) -> tuple[int, int, int, int, bool]:
    """Crop (top, left, height, width, mirrored) of an image for a sample key; the whole image for pass 0.

    augmentation: `numbers_of`.
    """
    if draw >> np.uint64(PASS_SHIFT) == 0:
        return 0, 0, height, width, False
    top, left, box_height, box_width = crop_box(height, width, augmentation[:2], augmentation[2:4], seed, draw)
    return top, left, box_height, box_width, uniform(seed, draw, FLIP) < augmentation[8]
