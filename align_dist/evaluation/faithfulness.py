"""Is an explanation what the model really uses? Insertion AUC, sufficiency, comprehensiveness.

All are per image. Images are normalised with ImageNet's mean and deviation, so zero is the mean colour.
Saliency maps (B, h, w) of any size are resized bilinearly to the images' size; larger means more
important. Equally salient pixels rank in row-major order, so results do not depend on the machine's sort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from align_dist.attribution import resize_map, size_of
from align_dist.evaluation.maps import blur

Predict = Callable[[Tensor], Tensor]
"""Normalised images (B, 3, H, W) -> softmax probabilities (B, C), of a model in evaluation mode."""

Fill = Literal["zero", "blur"]

RATIONALE_FRACTIONS = (0.01, 0.05, 0.10, 0.20, 0.50)
INSERTED_ROWS = 8
LARGEST_BATCH = 256


@torch.no_grad()
def insertion_curve(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    *,
    pixels_per_step: int | None = None,
    largest_batch: int = LARGEST_BATCH,
) -> Tensor:
    """Probability (B, steps + 1) of the predicted class as true pixels replace blurred ones.

    The first point is the blurred image (11 x 11 Gaussian, sigma 5, in normalised space), each next one has
    `pixels_per_step` more true pixels in order of falling saliency, the last is the image itself. The class
    is the one predicted on the full image. By default a step inserts 8 W pixels, so ceil(H / 8) steps: 28
    at 224. Steps are predicted together up to `largest_batch` images at once, or B if that is larger.
    Source: DRE's evaluate_auc.py after RISE (paper.md section 4.1), on unaugmented images.
    """
    count, _, height, width = images.shape
    step_size = INSERTED_ROWS * width if pixels_per_step is None else pixels_per_step
    steps = -(-height * width // step_size)
    rank, start, target = _ranks(saliency, height, width), blur(images), predict(images).argmax(1)
    points: list[Tensor] = []
    for chunk in _chunks(range(steps + 1), max(1, largest_batch // max(1, count))):
        inserted = [torch.where(rank < k * step_size, images, start) for k in chunk]
        tracked = _tracked(predict, torch.cat(inserted), target.repeat(len(chunk)))
        points.append(tracked.view(len(chunk), count))
    return torch.cat(points).T


def insertion_auc(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    *,
    pixels_per_step: int | None = None,
    largest_batch: int = LARGEST_BATCH,
) -> Tensor:
    """Area (B,) in [0, 1] under `insertion_curve`, higher is better: trapezoids over the number of steps."""
    curve = insertion_curve(predict, images, saliency, pixels_per_step=pixels_per_step, largest_batch=largest_batch)
    return area_under(curve)


def area_under(curve: Tensor) -> Tensor:
    """Trapezoid area (B,) of curves (B, points) whose points are evenly spaced over [0, 1]."""
    return (curve.sum(1) - (curve[:, 0] + curve[:, -1]) / 2) / (curve.shape[1] - 1)


@torch.no_grad()
def sufficiency_comprehensiveness(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    fractions: Sequence[float] = RATIONALE_FRACTIONS,
    fill: Fill = "zero",
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sufficiency and comprehensiveness, each (B,) in [-1, 1], averaged over rationale sizes.

    With r the most salient fraction of the pixels (at least one) and j the class predicted on x, or `target`:
    sufficiency = p_j(x) - p_j(only r), lower is better; comprehensiveness = p_j(x) - p_j(x without r), higher
    is better. Removed pixels take the mean colour ("zero") or the blurred image ("blur").
    Source: DeYoung et al., ERASER, https://aclanthology.org/2020.acl-main.408 (paper.md section 4.2).
    """
    height, width = images.shape[-2:]
    rank = _ranks(saliency, height, width)
    filled = torch.zeros_like(images) if fill == "zero" else blur(images)
    full = predict(images)
    classes = full.argmax(1) if target is None else target
    before = full.gather(1, classes[:, None])[:, 0]
    only = torch.zeros_like(before)
    without = torch.zeros_like(before)
    for fraction in fractions:
        rationale = rank < max(1, round(fraction * height * width))
        only += _tracked(predict, torch.where(rationale, images, filled), classes)
        without += _tracked(predict, torch.where(rationale, filled, images), classes)
    return before - only / len(fractions), before - without / len(fractions)


@torch.no_grad()
def soft_sufficiency_comprehensiveness(
    predict: Predict, images: Tensor, saliency: Tensor, target: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """p_j(x) - p_j(x * Phi) and p_j(x) - p_j(x * (1 - Phi)), each (B,) in [-1, 1]; Phi in [0, 1].

    The reading of sufficiency and comprehensiveness nearest to ALIGN's own L_dist (paper.md section 4.2).
    j is the class predicted on x, or `target`. Raises ValueError for a map outside [0, 1].
    """
    if saliency.numel() and not (saliency.min() >= -1e-5 and saliency.max() <= 1 + 1e-5):
        raise ValueError(f"soft maps must lie in [0, 1], got [{saliency.min():.3g}, {saliency.max():.3g}]")
    phi = resize_map(saliency.float(), size_of(images))[:, None]
    full = predict(images)
    classes = full.argmax(1) if target is None else target
    before = full.gather(1, classes[:, None])[:, 0]
    only = _tracked(predict, images * phi, classes)
    without = _tracked(predict, images * (1 - phi), classes)
    return before - only, before - without


def _ranks(saliency: Tensor, height: int, width: int) -> Tensor:
    """The place (B, 1, H, W) of every pixel in the order of falling saliency, 0 for the most salient."""
    flat = resize_map(saliency.float(), (height, width)).flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, places)
    return ranks.view(-1, 1, height, width)


def _tracked(predict: Predict, images: Tensor, classes: Tensor) -> Tensor:
    """The probability (B,) of one class an image."""
    return predict(images).gather(1, classes[:, None])[:, 0]


def _chunks(items: range, size: int) -> Iterator[range]:
    """Consecutive slices of at most `size` items."""
    return (items[i : i + size] for i in range(0, len(items), size))
