"""Localisation: agreement of masks and saliency maps with true masks (B, H, W), per image.

True masks are in [0, 1]; pixels of at least 0.5 are object. Maps of another size are resized bilinearly to the true
mask. An image without an object gives NaN (average with nanmean).
"""

from __future__ import annotations

import torch
from torch import Tensor

from align_dist.attribution import resize_map, size_of
from align_dist.data.batch import OBJECT_THRESHOLD

TIE_TOLERANCE = 1e-6


def mask_iou(mask: Tensor, truth: Tensor, threshold: float = 0.5) -> Tensor:
    """Intersection over union (B,) in [0, 1] of the pixels with mask >= threshold and the object."""
    predicted = resize_map(mask.float(), size_of(truth)) >= threshold
    actual = truth >= OBJECT_THRESHOLD
    shared = (predicted & actual).sum((1, 2))
    union = (predicted | actual).sum((1, 2))
    return _where_object(shared / union.clamp_min(1), actual)


def mask_area(mask: Tensor) -> Tensor:
    """Mean (B,) of a mask in [0, 1]: the covered share of the image, in [0, 1]."""
    return mask.float().mean((1, 2))


def binariness(mask: Tensor) -> Tensor:
    """Mean (B,) of |2m - 1|: 1 for a mask of zeros and ones only, 0 for a mask of 0.5 everywhere."""
    return (2 * mask.float() - 1).abs().mean((1, 2))


def pointing_game(saliency: Tensor, truth: Tensor) -> Tensor:
    """Return whether the most salient pixel lies on the object, (B,) in [0, 1].

    Where several pixels share the maximum (within 1e-6 of the largest magnitude), the value is the share of these
    pixels on the object, which is the expectation of a random choice: a constant map scores the object's area.
    Source: Zhang et al., Excitation Backprop, https://arxiv.org/abs/1608.00507, without its tolerance radius.
    """
    scaled = resize_map(saliency.float(), size_of(truth))
    actual = truth >= OBJECT_THRESHOLD
    slack = TIE_TOLERANCE * scaled.abs().amax((1, 2), keepdim=True)
    largest = scaled >= scaled.amax((1, 2), keepdim=True) - slack
    inside = (largest & actual).sum((1, 2)) / largest.sum((1, 2)).clamp_min(1)
    return _where_object(inside, actual)


def energy_inside(saliency: Tensor, truth: Tensor) -> Tensor:
    """Share (B,) in [0, 1] of the positive saliency that lies on the object.

    Negative saliency counts as zero, after resizing. A map without positive saliency scores 0.
    Source: the energy-based pointing game of Wang et al., Score-CAM, https://arxiv.org/abs/1910.01279.
    """
    energy = resize_map(saliency.float(), size_of(truth)).clamp_min(0)
    actual = truth >= OBJECT_THRESHOLD
    total = energy.sum((1, 2))
    inside = (energy * actual).sum((1, 2))
    return _where_object(torch.where(total > 0, inside / total, torch.zeros_like(total)), actual)


def _where_object(values: Tensor, actual: Tensor) -> Tensor:
    """Values (B,) of images with an object, NaN for other images."""
    return values.float().masked_fill(~actual.flatten(1).any(1), float("nan"))
