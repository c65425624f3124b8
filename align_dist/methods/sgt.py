"""SGT: saliency guided training (Ismail et al., NeurIPS 2021, https://arxiv.org/abs/2111.14338)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch, Share
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.methods.versions import forward_versions
from align_dist.options.baselines import SgtOptions
from align_dist.parallel.engine import input_gradient
from align_dist.sampling import random_keys, uniform_numbers


class SGT(Method[SgtOptions]):
    """L = CE(f(x), y) + λ KL(p(x) ‖ p(x̃)) from the first step on, with gradients through both.

    x̃: x with the share ρ of pixels replaced whose input gradient, the mean over colours, is lowest, signed, or by
    magnitude with `absolute`.
    Source: `Scripts/interpretable.py`, for colour images, and `Scripts/Helper.py` of
    https://github.com/ayaabdelsalam91/saliency_guided_training. Difference: the code runs a forward pass for x and one
    for x̃; here one pass takes both, and a BatchNorm that is not frozen normalises over both.
    """

    options_type = SgtOptions

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        versions = {name: batch.values[name] for name in ("replaced",) if name in batch.values}
        outputs = forward_versions(classifier, {"image": batch.images, **versions}, batch.labels, explain=False)
        logits = outputs["image"].logits
        losses: dict[str, tuple[float | None, Tensor]] = {
            "classification": (1.0, objectives.classification(logits, batch.labels))
        }
        if versions:
            losses["divergence"] = (self.options.weight, divergence(logits, outputs["replaced"].logits))
        return losses

    def share(self, batch: GlobalBatch, step: int) -> Share:
        """Each image's key for its random values; with random replacement."""
        share = super().share(batch, step)
        if self.options.weight == 0 or self.options.replacement != "random":
            return share
        return replace(share, values={**share.values, "key": random_keys(self.context.seed, share.sample_keys)})

    def prepare(self, batch: Batch, step: int) -> Batch:
        """x̃, from the input gradient before the step's update; with λ."""
        if self.options.weight == 0:
            return batch
        gradient = input_gradient(self.classifier, batch.images, batch.labels).mean(1)
        gradient = gradient.abs() if self.options.absolute else gradient
        replaced = torch.where(lowest(gradient, self.options.fraction)[:, None], self.values(batch), batch.images)
        return replace(batch, values={**batch.values, "replaced": replaced})

    def values(self, batch: Batch) -> Tensor:
        """Replacement values of pixels: (B, 3, H, W), or (B, 3, 1, 1) for the mean colour."""
        images = batch.images
        if self.options.replacement == "mean":
            return images.mean((2, 3), keepdim=True)
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        numbers = uniform_numbers(batch.values["key"], images[0].numel()).view(images.shape)
        return low + (high - low) * numbers.to(images.dtype)


def lowest(gradient: Tensor, fraction: float) -> Tensor:
    """The lowest ρ H W pixels of each map (B, H, W), the first of equal ones: (B, H, W) bool."""
    flat = gradient.flatten(1)
    order = flat.argsort(dim=1, stable=True)[:, : int(fraction * flat.shape[1])]
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, order, True).view(gradient.shape)


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ_c p_c (log p_c − log q_c), the mean over images. p of `logits`, q of `others`, (B, C) each. ≥ 0."""
    logarithm, other = logits.float().log_softmax(1), others.float().log_softmax(1)
    return (logarithm.exp() * (logarithm - other)).sum(1).mean()
