"""Relaxed sampling of masks: a grey pixel is kept or removed at random, instead of losing contrast.

To a network that ignores contrast, x⊙m looks the same for every constant m: a grey mask costs nothing in L_dist,
although it points at nothing. After sampling towards 0 or 1, a grey mask keeps a random half of the evidence and
loses the other half.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from align_dist.data.augmentation import uniform
from align_dist.data.compiling import compiled_for
from align_dist.data.sample_keys import SampleKeys

# Above every counter that augmentation uses for the same sample key.
SAMPLING = 1 << 16
# Keeps both logarithms of the noise finite; a cell draws such a number once in four billion.
SMALLEST = 2.0**-32
# Above the counter of every cell of a grid.
KEY = 1 << 24
_FILL = "void(uint64, uint64[:], int64, float64[:, ::1])"
# SplitMix64's constants as int64, which wraps around on every device.
_GOLDEN, _FIRST, _SECOND = (value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def logistic_noise(seed: int, sample_keys: SampleKeys, grid: int) -> Tensor:
    """log u − log(1 − u), u uniform in (0, 1), for every cell of a grid: (B, grid, grid) float32 on the CPU.

    A pure function of the seed and each image's sample key (sample id and pass): the same in any batch, on any rank
    and for any world size. No generator's state is read or changed.
    """
    numbers = np.empty((len(sample_keys), grid * grid), np.float64)
    compiled_for(_fill, _FILL)(np.uint64(seed), sample_keys, SAMPLING, numbers)
    numbers = numbers.clip(SMALLEST, 1 - SMALLEST)
    noise = np.log(numbers) - np.log1p(-numbers)
    return torch.from_numpy(noise.astype(np.float32)).view(len(sample_keys), grid, grid)


def relaxed_sample(mask: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """s = σ((logit m + n) / temperature), n the noise upsampled to the mask: a differentiable sample of m.

    mask: (B, H, W) in [0, 1]. noise: (B, g, g), logistic. Returns (B, H, W) float32 in [0, 1], closer to 0 or 1 at
    a lower temperature. In the grid's cells P(s > ½) = m at every temperature; between cells the bilinear noise is
    narrower. A coarse grid removes whole patches; a network would fill in single pixels.
    Source: the binary Concrete of Maddison et al. 2017 (https://arxiv.org/abs/1611.00712) and Jang et al. 2017
    (https://arxiv.org/abs/1611.01144), as gates as in Louizos et al. 2018 (https://arxiv.org/abs/1712.01312).
    """
    enlarged = F.interpolate(noise[:, None], mask.shape[-2:], mode="bilinear", align_corners=False)
    return torch.sigmoid((torch.logit(mask.float(), eps=1e-6) + enlarged[:, 0]) / temperature)


def random_keys(seed: int, sample_keys: SampleKeys) -> Tensor:
    """Keys for `uniform_numbers`, one per image: (B,) int64 on the CPU, from the seed and each image's sample key."""
    numbers = np.empty((len(sample_keys), 1), np.float64)
    compiled_for(_fill, _FILL)(np.uint64(seed), sample_keys, KEY, numbers)
    return torch.from_numpy((numbers[:, 0] * 2**53).astype(np.int64))


def uniform_numbers(keys: Tensor, count: int) -> Tensor:
    """`count` uniform numbers in [0, 1) per key, (B, count) float32 on the keys' device.

    Only keys are copied to the device. SplitMix64 in integers up to the last line, so that all devices agree bit for
    bit; each number is the upper 24 bits. Source: Steele, Lea, Flood 2014, https://doi.org/10.1145/2660193.2660195.
    """
    state = keys[:, None] + torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        state = (state ^ _shifted(state, shift)) * factor
    return _shifted(state ^ _shifted(state, 31), 40).to(torch.float32) * 2.0**-24


def _shifted(values: Tensor, places: int) -> Tensor:
    """Logical right shift of int64."""
    return (values >> places) & ((1 << (64 - places)) - 1)


def _fill(seed: np.uint64, sample_keys: SampleKeys, first: int, numbers: NDArray[np.float64]) -> None:
    for picture in range(numbers.shape[0]):
        for place in range(numbers.shape[1]):
            numbers[picture, place] = uniform(seed, sample_keys[picture], first + place)
