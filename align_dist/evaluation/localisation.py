"""Does a mask or a saliency map lie on the object? Values per image, against true masks (B, H, W).

True masks are in [0, 1]; a pixel of at least 0.5 is object. Maps of another size are resized bilinearly to
the true mask's. An image without an object has nothing to localise and gives NaN (average with nanmean).
"""

from __future__ import annotations

import torch
from torch import Tensor

from align_dist.attribution import resize_map, size_of

OBJECT_THRESHOLD = 0.5
TIE_TOLERANCE = 1e-6


def mask_iou(mask: Tensor, truth: Tensor, threshold: float = 0.5) -> Tensor:
    """Intersection over union (B,) in [0, 1] of the pixels with mask >= threshold and the object."""
    found = resize_map(mask.float(), size_of(truth)) >= threshold
    actual = truth >= OBJECT_THRESHOLD
    shared = (found & actual).sum((1, 2))
    union = (found | actual).sum((1, 2))
    return _where_object(shared / union.clamp_min(1), actual)


def mask_area(mask: Tensor) -> Tensor:
    """Mean (B,) of a mask in [0, 1]: the share of the image it covers, in [0, 1]."""
    return mask.float().mean((1, 2))


def binariness(mask: Tensor) -> Tensor:
    """Mean (B,) of |2m - 1|: 1 for a mask of zeros and ones only, 0 for one that is 0.5 everywhere."""
    return (2 * mask.float() - 1).abs().mean((1, 2))


def pointing_game(saliency: Tensor, truth: Tensor) -> Tensor:
    """Whether the most salient pixel lies on the object, (B,) in [0, 1].

    Where several pixels share the maximum (within 1e-6 of the largest magnitude) the value is the share of
    them on the object: the expectation of a random choice, so a constant map scores the object's area.
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

    Negative saliency counts as none, after resizing. A map without positive saliency shows no evidence and
    scores 0. Source: the energy-based pointing game of Wang et al., Score-CAM, https://arxiv.org/abs/1910.01279.
    """
    energy = resize_map(saliency.float(), size_of(truth)).clamp_min(0)
    actual = truth >= OBJECT_THRESHOLD
    total = energy.sum((1, 2))
    inside = (energy * actual).sum((1, 2))
    return _where_object(torch.where(total > 0, inside / total, torch.zeros_like(total)), actual)


def _where_object(values: Tensor, actual: Tensor) -> Tensor:
    """The values (B,) of the images that have an object, NaN for the others."""
    return values.float().masked_fill(~actual.flatten(1).any(1), float("nan"))
