"""Guidance by a mask that is not learned: the controls and ablations of ALIGN.

constant: one value everywhere, no picture in it at all. grey: the picture's luminance (the paper's m-Gray,
as paper.md reads it). given: the mask that came with the benchmark, a ceiling where it is the true one
(the paper's m-SAM when it came from SAM).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from align_dist.config import ObjectiveConfig
from align_dist.data.loader import Batch
from align_dist.methods.base import Forward, scalars
from align_dist.methods.guided import GuidedMethod
from align_dist.parallel.engine import Terms


class FixedMask(GuidedMethod):
    @classmethod
    def uses_true_masks(cls, objective: ObjectiveConfig) -> bool:
        return objective.fixed_mask == "given"

    def step(self, batch: Batch, step: int) -> Terms:
        parts = batch.parts(self.context.micro_batches)
        alone = len(parts) > 1
        update = self.classifier.update(lambda part: self._terms(part, step, self.classifier, alone), parts)
        return scalars("classifier", update)

    def mask(self, batch: Batch) -> Tensor:
        kind = self.context.objective.fixed_mask
        if kind == "grey":
            return luminance(batch.images)
        if kind == "given":
            assert batch.masks is not None, "the loader was not asked for masks"
            return batch.masks
        shape = (len(batch.images), *batch.images.shape[-2:])
        return torch.full(shape, self.context.objective.constant, device=batch.images.device)

    def probe(self, batch: Batch, step: int) -> Iterator[tuple[str, Terms]]:
        yield "classifier", self._terms(batch, step, self.classifier.module, alone=True)

    def _terms(self, batch: Batch, step: int, classifier: Forward, alone: bool) -> Terms:
        mask = self.mask(batch) if self.guided(step) else None
        return self.classifier_terms(classifier, batch, mask, step, alone)


def luminance(images: Tensor) -> Tensor:
    """The picture's grey level, stretched to [0, 1] image by image. (B, 3, H, W) normalised → (B, H, W)."""
    red, green, blue = images.unbind(1)
    grey = 0.2989 * red + 0.587 * green + 0.114 * blue
    low, high = grey.amin((1, 2), keepdim=True), grey.amax((1, 2), keepdim=True)
    return (grey - low) / (high - low).clamp_min(1e-6)
