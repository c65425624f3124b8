"""What each method is there for, measured by its definition and by none of its own code; the lower the better.

Maps and features come from the classifier, whose Grad-CAM is compared with captum's elsewhere.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from align_dist.data.batch import Batch

Values = NDArray[np.float64]
# Pixels between the cells of Grad-CAM of the tests' networks, whose first cell lies at pixel 0.
STRIDE = 8


def maps_of(network: nn.Module, images: Tensor, labels: Tensor) -> Values:
    """Rectified Grad-CAM of the labels, stretched to [0, 1]; a map without positive cells is 0."""
    with torch.no_grad():
        cam: Values = network(images, explain=labels).cam.double().numpy().clip(min=0)
    cam -= cam.min((1, 2), keepdims=True)
    largest = cam.max((1, 2), keepdims=True)
    return cam / np.where(largest > 0, largest, 1)


def in_cells(masks: Tensor, side: int) -> Values:
    """Masks averaged over the pixels around each cell."""
    values, half = masks.double().numpy(), STRIDE // 2
    starts = [max(0, STRIDE * cell - half) for cell in range(side)]
    rows = [[values[:, a : a + STRIDE, b : b + STRIDE].mean((1, 2)) for b in starts] for a in starts]
    return np.array(rows).transpose(2, 0, 1)


def cross_entropy(network: nn.Module, images: Tensor, labels: Tensor) -> Values:
    """Of each image."""
    with torch.no_grad():
        losses: Values = F.cross_entropy(network(images), labels, reduction="none").double().numpy()
    return losses


def attribution_outside(network: nn.Module, batch: Batch, masks: Tensor) -> float:
    """The share of Grad-CAM that lies outside the masks, of images whose map is not empty."""
    maps = maps_of(network, batch.images, batch.labels)
    inside = (maps * in_cells(masks, maps.shape[-1])).sum((1, 2)) / np.maximum(maps.sum((1, 2)), 1e-9)
    return float(1 - inside[maps.sum((1, 2)) > 0].mean())


def disagreement(network: nn.Module, batch: Batch, masks: Tensor) -> float:
    """One less the mean correlation over cells of Grad-CAM and masks."""
    maps = maps_of(network, batch.images, batch.labels)
    of_masks = in_cells(masks, maps.shape[-1])
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(maps, of_masks, strict=True) if a.std() > 0 and b.std() > 0]
    return float(1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


def uncut_evidence(network: nn.Module, batch: Batch, masks: Tensor) -> float:
    """The mean of p_y(x ⊙ (1 − M)) − p_y(x ⊙ M): what is left of the evidence less what the mask holds."""
    with torch.no_grad():
        kept, removed = (network(batch.images * part[:, None]).softmax(1) for part in (masks, 1 - masks))
    change = (removed - kept).gather(1, batch.labels[:, None])
    return float(change.mean())


def inconsistency_under_mixtures(network: nn.Module, batch: Batch) -> float:
    """How far the map of the mean of two images of one class is from the mean of their maps, as a share of its size."""
    labels = batch.labels.tolist()
    pairs = [(a, b) for a, b in combinations(range(len(labels)), 2) if labels[a] == labels[b]]
    first, second = (torch.tensor(indices) for indices in zip(*pairs, strict=True))
    mixed = maps_of(network, (batch.images[first] + batch.images[second]) / 2, batch.labels[first])
    maps = maps_of(network, batch.images, batch.labels)
    mean = (maps[first.numpy()] + maps[second.numpy()]) / 2
    return float(np.abs(mixed - mean).mean() / mean.mean())


def size_of_maps(network: nn.Module, batch: Batch) -> float:
    """The mean over cells of maps stretched to [0, 1]."""
    return float(maps_of(network, batch.images, batch.labels).mean())


def change_without_weak_pixels(network: nn.Module, batch: Batch, share: float = 0.1) -> float:
    """KL(p(x) ‖ p(x̃)), x̃ with the pixels of lowest gradient at the mean colour of the image."""
    images = batch.images.clone().requires_grad_()
    network(images).gather(1, batch.labels[:, None]).sum().backward()
    assert images.grad is not None
    weak = images.detach().clone()
    for image, gradient in zip(weak, images.grad.mean(1), strict=True):
        lowest = gradient.flatten().argsort()[: int(share * gradient.numel())]
        image.view(3, -1)[:, lowest] = image.mean((1, 2))[:, None]
    network.zero_grad()
    with torch.no_grad():
        before, after = (network(version).softmax(1).double() for version in (batch.images, weak))
    return float((before * (before / after).log()).sum(1).mean())


def inconsistency_under_shifts(network: nn.Module, batch: Batch) -> float:
    """How much less a map of a shifted image is like the shifted map than like those of other images, by cosine."""
    shifted = F.pad(batch.images, (0, STRIDE, 0, 0))[..., STRIDE:]
    maps = maps_of(network, batch.images, batch.labels)[:, :, 1:].reshape(len(batch.images), -1)
    others = maps_of(network, shifted, batch.labels)[:, :, :-1].reshape(len(batch.images), -1)
    unit = [values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9) for values in (maps, others)]
    cosine = unit[0] @ unit[1].T
    count = len(cosine)
    apart = (cosine.sum() - np.trace(cosine)) / (count * (count - 1))
    return float(apart - np.trace(cosine) / count)


def divergence_on_mixtures(network: nn.Module, batch: Batch) -> float:
    """KL of the prediction of the mean of each image and the next from half of either label, which differ."""
    images, following = (batch.images + batch.images.roll(1, 0)) / 2, batch.labels.roll(1)
    assert (batch.labels != following).all()
    losses = [cross_entropy(network, images, labels).mean() for labels in (batch.labels, following)]
    return float(np.mean(losses) - np.log(2))


def slope_of_scale(network: nn.Module, batch: Batch) -> float:
    """The mean over domains of (d CE(w · f(x)) / dw at w = 1)², by differences."""
    with torch.no_grad():
        logits = network(batch.images).double()
    slopes = []
    for domain in batch.domains.unique():
        own = batch.domains == domain
        up, down = (float(F.cross_entropy(scale * logits[own], batch.labels[own])) for scale in (1.001, 0.999))
        slopes.append(((up - down) / 0.002) ** 2)
    return float(np.mean(slopes))


def worst_domain_loss(network: nn.Module, batch: Batch) -> float:
    """The largest cross-entropy of the batch's domains."""
    losses, domains = cross_entropy(network, batch.images, batch.labels), batch.domains.numpy()
    return float(max(losses[domains == domain].mean() for domain in np.unique(domains)))


def loss_without_strong_features(network: nn.Module, batch: Batch) -> float:
    """Cross-entropy without the third of the features that have the largest weights for the label."""

    def look(features: Tensor, head: nn.Module) -> Tensor:
        weights: Tensor = head.weight[batch.labels]  # type: ignore[index]
        strongest = weights.argsort(1, descending=True)[:, : weights.shape[1] // 3]
        return head(features.scatter(1, strongest, 0.0))

    with torch.no_grad():
        logits = network(batch.images, inspect=look)
    return float(F.cross_entropy(logits, batch.labels))
