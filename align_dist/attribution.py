"""Grad-CAM: where in its last feature map a classifier sees evidence for a class.

The channel weights are constants (detached): explanation losses reach the network through the activations
only, as in captum's LayerGradCam, which DRE uses.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from align_dist.places import Places, upsample_to_image

Normalisation = Literal["minmax", "relu_max"]


def linear_head_cam(features: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Grad-CAM in closed form, for global average pooling followed by one linear layer.

    d logit_y / d A_k is W[y, k] / (H W) in every cell, so the map is one projection of the features.
    Source: Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2 (without the ReLU),
    and Zhou et al. 2016, https://arxiv.org/abs/1512.04150.

    features: (B, K, H, W), the input of the pooling. weight: (C, K). labels: (B,) int64 in [0, C).
    Returns (B, H, W), signed, in float32 or better.
    """
    places = features.shape[2] * features.shape[3]
    return _weighted_sum(features, weight.detach()[labels] / places)


def autograd_cam(logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Grad-CAM for any head, with the averaged gradients (equation 1 above) as constant channel weights.

    logits: (B, C), computed from features (B, K, H, W) with gradients on. labels: (B,). Returns (B, H, W), signed,
    in float32 or better.
    """
    score = logits.gather(1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, features, retain_graph=True)
    return _weighted_sum(features, gradient.mean(dim=(2, 3), dtype=torch.promote_types(gradient.dtype, torch.float32)))


def _weighted_sum(features: Tensor, channel_weights: Tensor) -> Tensor:
    """Features (B, K, H, W) summed over channels with weights (B, K): (B, H, W), in float32 or better.

    Written as a sum, because autocast would round a matrix product to 16 bits. A map is normalised by its range, which
    is often a small part of its values, and rounding errors would grow with it.
    """
    computed = torch.promote_types(features.dtype, torch.float32)
    return (features.to(computed) * channel_weights.to(computed)[:, :, None, None]).sum(1)


def normalise(cam: Tensor, kind: Normalisation = "minmax", epsilon: float = 1e-2) -> Tensor:
    """Normalise maps (B, H, W) to [0, 1], image by image.

    minmax: (cam - min) / (max - min), signed evidence included (DRE's code, plus an epsilon); a constant map
    becomes zeros.
    relu_max: max(cam, 0) / max(cam, 0).max(), the usual display of Grad-CAM.
    epsilon: relative to the map's largest absolute value, so that the noise of a flat map is not stretched to [0, 1];
    of a map whose range is a small part of its values the maximum stays well below 1. A map of zeros stays zeros, with
    finite gradients.
    """
    scale = cam.detach().abs().amax(dim=(1, 2), keepdim=True)
    low = cam.amin(dim=(1, 2), keepdim=True) if kind == "minmax" else torch.zeros_like(scale)
    raised = cam - low if kind == "minmax" else cam.clamp_min(0)
    spread = raised.amax(dim=(1, 2), keepdim=True) + epsilon * scale
    return raised / torch.where(scale > 0, spread, 1.0)


def saliency(cam: Tensor, size: tuple[int, int], places: Places | None = None) -> Tensor:
    """Φ for metrics and figures: signed maps (B, h, w) rectified, divided by their maximum and upsampled from their
    places to (B, *size), in [0, 1].
    """
    return upsample_to_image(normalise(cam.float(), "relu_max"), size, places).clamp(0, 1)


def warp_maps(maps: Tensor, geometry: Tensor) -> Tensor:
    """Maps (B, h, w) of one view, resampled bilinearly in the frame of another; 0 outside the first view.

    geometry: (B, 2, 3), from the other view's frame to the first one's (`places.cells_transform`).
    """
    points = F.affine_grid(geometry, [len(maps), 1, *maps.shape[-2:]], align_corners=False)
    return F.grid_sample(maps[:, None], points.to(maps.dtype), align_corners=False)[:, 0]


def size_of(pictures: Tensor) -> tuple[int, int]:
    """Height and width of images or maps (..., H, W)."""
    return pictures.shape[-2], pictures.shape[-1]


def resize_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (B, H, W) bilinearly to (B, *size), antialiased."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False, antialias=True)[:, 0]
