"""Fixed masks: from the beton, from the image, or constant."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from align_dist.attribution import size_of
from align_dist.data.batch import Batch
from align_dist.methods.masks import MaskSource
from align_dist.options import FixedSourceOptions


def source_of(options: FixedSourceOptions) -> MaskSource:
    """The mask source of the option `mask`."""
    sources = {
        "constant": constant(options.constant),
        "gaussian": gaussian,
        "grey": grey,
        "given": lambda batch: erode(beton_masks(batch), options.erosion),
    }
    return sources[options.mask]


def beton_masks(batch: Batch) -> Tensor:
    """The masks in the beton: true masks, masks from a folder, or masks of a segmentation model (the paper's m-SAM for
    SAM).
    """
    assert batch.masks is not None, "the loader was opened without masks"
    return batch.masks


def erode(masks: Tensor, pixels: int) -> Tensor:
    """Masks (B, H, W) eroded by `pixels`: each pixel is the minimum over a square window inside the image."""
    return -F.max_pool2d(-masks[:, None].float(), 2 * pixels + 1, 1, pixels)[:, 0] if pixels else masks


def constant(value: float) -> MaskSource:
    """The same value everywhere, independent of the image."""

    def masks(batch: Batch) -> Tensor:
        shape = (len(batch.images), *batch.images.shape[-2:])
        return torch.full(shape, value, device=batch.images.device)

    return masks


def gaussian(batch: Batch) -> Tensor:
    """A Gaussian at the centre with maximum 1 and a std of a fifth of the side, independent of the image: a prior for
    where photographers place objects.
    """
    height, width = size_of(batch.images)
    device = batch.images.device
    down, across = (torch.linspace(-1, 1, side, device=device).square() for side in (height, width))
    bump = torch.exp(-(down[:, None] + across) / (2 * 0.4**2))
    return bump.expand(len(batch.images), height, width)


def grey(batch: Batch) -> Tensor:
    """The image's luminance: the paper's m-Gray, of which the paper gives the name alone. Stretched to [0, 1] image by
    image, which is ours, so that brightness and contrast do not decide how much a mask covers.
    """
    return luminance(batch.images)


def luminance(images: Tensor) -> Tensor:
    """Luminance of normalised images (B, 3, H, W), stretched to [0, 1] image by image: (B, H, W).

    Weights of red, green and blue from ITU-R BT.601, of the normalised colours: normalisation changes their relative
    weights by 2 % at most.
    """
    red, green, blue = images.unbind(1)
    level = 0.2989 * red + 0.587 * green + 0.114 * blue
    low, high = level.amin((1, 2), keepdim=True), level.amax((1, 2), keepdim=True)
    return (level - low) / (high - low).clamp_min(1e-6)
