"""The blur with which metrics replace pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

BLUR_SIZE, BLUR_SIGMA = 11, 5.0


def blur(images: Tensor, size: int = BLUR_SIZE, sigma: float = BLUR_SIGMA) -> Tensor:
    """Images (B, C, H, W) blurred by a size x size Gaussian, sigma in pixels, zero-padded at the border.

    The kernel is RISE's and DRE's: a point blurred inside a window of `size` pixels with reflecting edges,
    so it sums to one and is flatter than a truncated Gaussian
    (`gkern` in https://github.com/tangli-udel/DRE/blob/main/dre/explanations/fidelity/evaluation.py).
    """
    line = _blur_line(size, sigma).to(images)
    channels = images.shape[1]
    rows = line.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    columns = line.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    down = conv2d(images, rows, padding=(size // 2, 0), groups=channels)
    return conv2d(down, columns, padding=(0, size // 2), groups=channels)


def _blur_line(size: int, sigma: float) -> Tensor:
    """The kernel's one-dimensional factor (size,): a Gaussian cut at 4 sigma, folded back at the edges."""
    reach = int(4 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / sigma).double() ** 2)
    position = (offsets + size // 2) % (2 * size)
    folded = torch.where(position < size, position, 2 * size - 1 - position)
    return torch.zeros(size, dtype=torch.float64).index_add_(0, folded, weights / weights.sum())
