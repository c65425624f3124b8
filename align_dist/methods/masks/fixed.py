"""Masks that nobody learns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from align_dist.attribution import size_of
from align_dist.data.batch import Batch
from align_dist.methods.masks import MaskSource
from align_dist.methods.options import FixedSourceOptions


def source_of(options: FixedSourceOptions) -> MaskSource:
    """The source that `mask` names."""
    sources = {
        "constant": constant(options.constant),
        "gaussian": gaussian,
        "grey": grey,
        "given": lambda batch: eroded(given(batch), options.erosion),
    }
    return sources[options.mask]


def given(batch: Batch) -> Tensor:
    """The masks in the beton: the true ones, those of a folder, or a segmentation model's, written once (the paper's
    m-SAM when it came from SAM).
    """
    assert batch.masks is not None, "the loader was not asked for masks"
    return batch.masks


def eroded(masks: Tensor, pixels: int) -> Tensor:
    """Masks (B, H, W), each pixel the least of those at most so many pixels away; what lies outside the picture does
    not count.
    """
    return -F.max_pool2d(-masks[:, None].float(), 2 * pixels + 1, 1, pixels)[:, 0] if pixels else masks


def constant(value: float) -> MaskSource:
    """One value everywhere, no picture in it at all."""

    def masks(batch: Batch) -> Tensor:
        shape = (len(batch.images), *batch.images.shape[-2:])
        return torch.full(shape, value, device=batch.images.device)

    return masks


def gaussian(batch: Batch) -> Tensor:
    """A bump in the middle, 1 at its top, of a standard deviation of a fifth of the side: where photographers put what
    they photograph, and no picture in it at all.
    """
    height, width = size_of(batch.images)
    device = batch.images.device
    down, across = (torch.linspace(-1, 1, side, device=device).square() for side in (height, width))
    bump = torch.exp(-(down[:, None] + across) / (2 * 0.4**2))
    return bump.expand(len(batch.images), height, width)


def grey(batch: Batch) -> Tensor:
    """The image's luminance: the paper's m-Gray, as paper.md section 1.2 reads it."""
    return luminance(batch.images)


def luminance(images: Tensor) -> Tensor:
    """The grey level, stretched to [0, 1] image by image. (B, 3, H, W) normalised → (B, H, W).

    Weights of red, green and blue: ITU-R BT.601.
    """
    red, green, blue = images.unbind(1)
    level = 0.2989 * red + 0.587 * green + 0.114 * blue
    low, high = level.amin((1, 2), keepdim=True), level.amax((1, 2), keepdim=True)
    return (level - low) / (high - low).clamp_min(1e-6)
