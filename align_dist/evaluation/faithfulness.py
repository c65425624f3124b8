"""Faithfulness of explanations: insertion AUC, sufficiency and comprehensiveness, per image.

Images are normalised with mean and std, so zero is the mean colour. Saliency maps (B, h, w) of any size are resized
bilinearly to the images' size; larger means more important. Equally salient pixels rank in row-major order, so results
do not depend on the machine's sort.
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
    """Probability (B, steps + 1) of the predicted class while true pixels replace blurred pixels.

    The first point is the blurred image (11 x 11 Gaussian, sigma 5, in normalised space), each next point has
    `pixels_per_step` more true pixels in order of falling saliency, and the last is the image. The class is the
    prediction for the full image. By default a step inserts 8 W pixels, which gives ceil(H / 8) steps: 28 at 224.
    Steps are predicted together with up to `largest_batch` images at once, or B if that is larger.
    Source: DRE's evaluate_auc.py after RISE (https://arxiv.org/abs/1806.07421), on unaugmented images.
    """
    return _replacement_curve(predict, images, blur(images), images, saliency, pixels_per_step, largest_batch)


@torch.no_grad()
def deletion_curve(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    *,
    pixels_per_step: int | None = None,
    largest_batch: int = LARGEST_BATCH,
) -> Tensor:
    """Probability (B, steps + 1) of the predicted class while the mean colour replaces the most salient pixels first.

    The first point is the image, the last an image of the mean colour. Parameters and steps as in `insertion_curve`.
    Source: Petsiuk et al. 2018 (RISE), https://arxiv.org/abs/1806.07421, algorithm 1.
    """
    removed = torch.zeros_like(images)
    return _replacement_curve(predict, images, images, removed, saliency, pixels_per_step, largest_batch)


def _replacement_curve(
    predict: Predict,
    images: Tensor,
    start: Tensor,
    end: Tensor,
    saliency: Tensor,
    pixels_per_step: int | None,
    largest_batch: int,
) -> Tensor:
    """Probability (B, steps + 1) of the class predicted for `images` while pixels of `end` replace those of `start`."""
    count, _, height, width = images.shape
    step_size = INSERTED_ROWS * width if pixels_per_step is None else pixels_per_step
    steps = -(-height * width // step_size)
    rank, target = _ranks(saliency, height, width), predict(images).argmax(1)
    points: list[Tensor] = []
    for chunk in _chunks(range(steps + 1), max(1, largest_batch // max(1, count))):
        versions = [torch.where(rank < k * step_size, end, start) for k in chunk]
        probabilities = _probability_of(predict, torch.cat(versions), target.repeat(len(chunk)))
        points.append(probabilities.view(len(chunk), count))
    return torch.cat(points).T


def area_under(curve: Tensor) -> Tensor:
    """Trapezoid area (B,) in [0, 1] under curves (B, points) whose points are evenly spaced over [0, 1].

    Insertion AUC, higher is better, or deletion AUC, lower is better.
    """
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
    is better. Removed pixels are replaced by the mean colour ("zero") or the blurred image ("blur").
    Source: DeYoung et al., ERASER, https://aclanthology.org/2020.acl-main.408.
    """
    height, width = images.shape[-2:]
    rank = _ranks(saliency, height, width)
    replacement = torch.zeros_like(images) if fill == "zero" else blur(images)
    full = predict(images)
    classes = full.argmax(1) if target is None else target
    original = full.gather(1, classes[:, None])[:, 0]
    sufficient_sum = torch.zeros_like(original)
    removed_sum = torch.zeros_like(original)
    for fraction in fractions:
        rationale = rank < max(1, round(fraction * height * width))
        sufficient_sum += _probability_of(predict, torch.where(rationale, images, replacement), classes)
        removed_sum += _probability_of(predict, torch.where(rationale, replacement, images), classes)
    return original - sufficient_sum / len(fractions), original - removed_sum / len(fractions)


@torch.no_grad()
def soft_sufficiency_comprehensiveness(
    predict: Predict, images: Tensor, saliency: Tensor, target: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """p_j(x) - p_j(x * Phi) and p_j(x) - p_j(x * (1 - Phi)), each (B,) in [-1, 1]; Phi in [0, 1].

    The interpretation of sufficiency and comprehensiveness closest to ALIGN's L_dist; the paper defines neither.
    j is the class predicted on x, or `target`. Raises ValueError for a map outside [0, 1].
    """
    if saliency.numel() and not (saliency.min() >= -1e-5 and saliency.max() <= 1 + 1e-5):
        raise ValueError(f"soft maps must lie in [0, 1], got [{saliency.min():.3g}, {saliency.max():.3g}]")
    phi = resize_map(saliency.float(), size_of(images))[:, None]
    full = predict(images)
    classes = full.argmax(1) if target is None else target
    original = full.gather(1, classes[:, None])[:, 0]
    kept_probability = _probability_of(predict, images * phi, classes)
    removed_probability = _probability_of(predict, images * (1 - phi), classes)
    return original - kept_probability, original - removed_probability


def _ranks(saliency: Tensor, height: int, width: int) -> Tensor:
    """Rank (B, 1, H, W) of every pixel by falling saliency, 0 for the most salient."""
    flat = resize_map(saliency.float(), (height, width)).flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, places)
    return ranks.view(-1, 1, height, width)


def _probability_of(predict: Predict, images: Tensor, classes: Tensor) -> Tensor:
    """Probability (B,) of one class per image."""
    return predict(images).gather(1, classes[:, None])[:, 0]


def _chunks(items: range, size: int) -> Iterator[range]:
    """Consecutive slices of at most `size` items."""
    return (items[i : i + size] for i in range(0, len(items), size))
