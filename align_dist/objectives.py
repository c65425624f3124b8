"""The equations of ALIGN (arXiv 2511.06944), one pure function per term.

The weights λ1–λ4 are applied in `methods/`, which adds up the terms. Where the public part of the paper leaves a
choice, the choice is an argument.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from align_dist.attribution import Normalisation, normalise, size_of
from align_dist.places import Places, pool_to_cells, upsample_to_image

Smoothness = Literal["absolute", "squared"]
GuidanceResolution = Literal["map", "image"]
Sparsity = Literal["mean", "column_maximum"]


def distinction(kept_logits: Tensor, removed_logits: Tensor, labels: Tensor) -> Tensor:
    """L_dist = mean (dist(x) − 1)², dist(x) = f_y(x⊙M) − f_y(x⊙(1−M)).

    kept_logits, removed_logits: (B, C), of x⊙M and x⊙(1−M). labels: (B,), or (B, K) for sets of classes. f_y is the
    softmax probability of the true class or set, for which the target 1 is reachable. Scalar in [0, 4].
    """
    classes = labels.view(len(labels), -1)
    probability_kept = torch.softmax(kept_logits.float(), dim=1).gather(1, classes).sum(1)
    probability_removed = torch.softmax(removed_logits.float(), dim=1).gather(1, classes).sum(1)
    return (probability_kept - probability_removed - 1).square().mean()


def sparsity(mask: Tensor) -> Tensor:
    """L_sparsity = ‖M(x)‖₁ as a mean over pixels and images, so that λ1 does not depend on the image size.

    mask: (B, H, W) in [0, 1]. Scalar in [0, 1], the mask's mean area.
    """
    return mask.abs().mean()


def smoothness(mask: Tensor, kind: Smoothness = "absolute") -> Tensor:
    """L_smooth: total variation, the mean difference of neighbours along rows plus that along columns.

    absolute: anisotropic |Δ|, which allows sharp edges. squared: Δ², which blurs edges. The paper says only
    that abrupt transitions are penalised. mask: (B, H, W) in [0, 1]. Scalar in [0, 2].
    """
    down, across = mask.diff(dim=1), mask.diff(dim=2)
    if kind == "absolute":
        return down.abs().mean() + across.abs().mean()
    return down.square().mean() + across.square().mean()


def classification(logits: Tensor, labels: Tensor) -> Tensor:
    """L_cls = CE(f(x), y), the mean over images. logits: (B, C). Scalar ≥ 0."""
    return F.cross_entropy(logits.float(), labels)


def guidance(
    cam: Tensor,
    mask: Tensor,
    normalisation: Normalisation = "minmax",
    resolution: GuidanceResolution = "map",
    epsilon: float = 1e-2,
    places: Places | None = None,
    weight: Tensor | float = 1.0,
) -> Tensor:
    """L_egl = BCE(Φ_y(x), M(x)), prediction Φ (normalised Grad-CAM), target M; the mean over cells.

    cam: (B, h, w), signed. mask: (B, H, W) in [0, 1]. resolution: `map` averages M down to the cells of Φ, `image`
    upsamples Φ to the pixels of M. Φ is squeezed into [epsilon, 1 − epsilon], which bounds BCE's gradient by
    1/epsilon; otherwise the gradient explodes at Φ → 0 under M > 0. weight: of each image (B,). Scalar ≥ 0.
    """
    attribution, target = normalise(cam.float(), normalisation, epsilon), mask.float()
    if resolution == "map":
        target = pool_to_cells(target, size_of(attribution), places)
    else:
        attribution = upsample_to_image(attribution, size_of(target), places)
    squeezed = epsilon + (1 - 2 * epsilon) * attribution.clamp(0, 1)
    # Written out, because torch's BCE raises on the rank with a NaN and leaves the other ranks waiting.
    likelihood = target * squeezed.log() + (1 - target) * (1 - squeezed).log()
    return -(weight * likelihood.mean((1, 2))).mean()


def exchange_background(images: Tensor, mask: Tensor, others: Tensor) -> Tensor:
    """x ⊙ M + x' ⊙ (1 − M): the region of each mask, surrounded by the background of another image.

    images, others: (B, 3, H, W). mask: (B, H, W) in [0, 1]. A network that still predicts the class has not used the
    background. Source: the mixed-rand images of Xiao et al. 2021 (https://arxiv.org/abs/2006.09994), here with soft
    masks.
    """
    share = mask[:, None].to(images.dtype)
    return images * share + others * (1 - share)


def mixture(images: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """x̃_i = λ_i x_i + (1 − λ_i) x_π(i). images, partners: (B, 3, H, W). share: λ (B,) in [0, 1].

    Source: Li et al. 2023 (DRE), `dre/mixuploss.py`; π and λ: `data.share.pair_within_class`.
    """
    weight = share.view(-1, 1, 1, 1).to(images.dtype)
    return weight * images + (1 - weight) * partners


def consistency(cam: Tensor, mixed_cam: Tensor, partner_cam: Tensor, share: Tensor, weight: Tensor) -> Tensor:
    """R_con: |n(G(x̃)) − λ n(G(x)) − (1−λ) n(G(x_π))|, averaged within each class, then over all classes.

    Classes absent from the batch count as zero, as in DRE's code. Maps (B, h, w); n is min–max. share: λ (B,).
    weight: (B,), which turns a mean over images into the class average (`data.share.class_weights`). Scalar ≥ 0.
    """
    image_share = share.view(-1, 1, 1)
    target = image_share * normalise(cam) + (1 - image_share) * normalise(partner_cam)
    return (weight * (normalise(mixed_cam) - target).abs().mean(dim=(1, 2))).mean()


def attribution_sparsity(cam: Tensor, mixed_cam: Tensor, weight: Tensor, kind: Sparsity) -> Tensor:
    """R_spa = ½ [s(n(G(x))) + s(n(G(x̃)))], averaged like R_con.

    mean: s is the mean over cells, as in DRE's paper (L1). column_maximum: s is each column's maximum, averaged over
    columns, as DRE's code computes with a matrix 1-norm. Scalar in [0, 1].
    """

    def size(maps: Tensor) -> Tensor:
        normalised = normalise(maps)
        return normalised.mean(dim=(1, 2)) if kind == "mean" else normalised.amax(dim=1).mean(dim=1)

    return (weight * (size(cam) + size(mixed_cam)) / 2).mean()


def weighted_classification(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """CE(f(x), y), weighted by image: R_ce for x̃, averaged like R_con. logits: (B, C). weight: (B,). Scalar ≥ 0."""
    return (weight * F.cross_entropy(logits.float(), labels, reduction="none")).mean()


def mixup_regulariser(
    cam: Tensor,
    mixed_cam: Tensor,
    partner_cam: Tensor,
    mixed_logits: Tensor,
    share: Tensor,
    labels: Tensor,
    weight: Tensor,
    kind: Sparsity = "mean",
) -> Tensor:
    """L_reg = 1.0 R_con + 0.5 R_spa + 0.1 R_ce, DRE's regulariser with DRE's weights."""
    return (
        consistency(cam, mixed_cam, partner_cam, share, weight)
        + 0.5 * attribution_sparsity(cam, mixed_cam, weight, kind)
        + 0.1 * weighted_classification(mixed_logits, labels, weight)
    )
