"""ALIGN (arXiv 2511.06944): a masker and a classifier, in alternation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from align_dist import objectives
from align_dist.data.loader import Batch
from align_dist.data.share import GlobalBatch, Share
from align_dist.methods.base import Context, Forward, scalars
from align_dist.methods.guided import GuidedMethod
from align_dist.parallel.engine import Engine, Terms, frozen
from align_dist.sampling import logistic_noise, relaxed_sample

Features = Sequence[Tensor]


class ALIGN(GuidedMethod):
    """After warm-up, update M with f fixed, then f with M fixed."""

    uses_masker = True
    silent_in_warmup: tuple[str, ...] = (
        *GuidedMethod.silent_in_warmup,
        "masker",
        "objective.lambda1",
        "objective.lambda2",
        "objective.smoothness",
        "objective.alternation",
        "objective.mask_sampling",
        "objective.sampling_grid",
        "objective.sampling_temperature",
        "training.masker_head_start",
        "training.sparsity_ramp",
    )

    def __init__(self, networks: dict[str, Engine], context: Context) -> None:
        super().__init__(networks, context)
        self.masker = networks["masker"]

    def step(self, batch: Batch, step: int) -> Terms:
        logged: Terms = {}
        parts = batch.parts(self.context.micro_batches)
        begun = step >= self.context.masker_start
        seen = [(part, self._features(part) if begun else ()) for part in parts]
        if begun and self._turn(step) != "classifier":
            logged |= scalars("masker", self.masker.update(lambda x: self.masker_terms(self.masker, *x, step), seen))
        if self._turn(step) != "masker":
            masks = [self.mask(*x) if self.guided(step) else None for x in seen]
            guided = list(zip(parts, masks, strict=True))
            alone = len(parts) > 1
            logged |= scalars(
                "classifier",
                self.classifier.update(lambda x: self.classifier_terms(self.classifier, *x, step, alone), guided),
            )
            logged |= _described([mask for mask in masks if mask is not None])
        return logged

    def masker_terms(self, masker: Forward, batch: Batch, features: Features, step: int) -> Terms:
        """L_mask = L_dist + λ1 ‖M(x)‖₁ + λ2 L_smooth, f fixed: gradients pass through f, none reach it."""
        objective = self.context.objective
        mask = masker(batch.images, features)
        with frozen(self.classifier) as classifier, self.classifier.autocast():
            keep = self.seen(mask, batch)[:, None].to(batch.images.dtype)
            kept, removed = classifier(torch.cat([batch.images * keep, batch.images * (1 - keep)])).chunk(2)
            return {
                "distinction": objectives.distinction(kept, removed, batch.labels),
                "sparsity": self.lambda1(step) * objectives.sparsity(mask),
                "smoothness": objective.lambda2 * objectives.smoothness(mask, objective.smoothness),
            }

    def seen(self, mask: Tensor, batch: Batch) -> Tensor:
        """What L_dist multiplies x with: M(x), or a relaxed sample of it. Sparsity and smoothness stay on M(x)."""
        objective = self.context.objective
        if objective.mask_sampling == "none":
            return mask
        return relaxed_sample(mask, batch.values["noise"], objective.sampling_temperature)

    def share(self, batch: GlobalBatch, step: int) -> Share:
        share, objective = super().share(batch, step), self.context.objective
        if objective.mask_sampling == "none":
            return share
        noise = logistic_noise(self.context.seed, share.draws, objective.sampling_grid)
        return replace(share, values={**share.values, "noise": noise})

    def mask(self, batch: Batch, features: Features = ()) -> Tensor:
        """M(x), M fixed. features: what `_features` found in these images, if anything."""
        with torch.no_grad(), frozen(self.masker) as masker, self.masker.autocast():
            mask: Tensor = masker(batch.images, features)
            return mask.float()

    def _features(self, batch: Batch) -> Features:
        """What stays fixed in the masker, once for its update and for the mask that guides."""
        with torch.no_grad(), self.masker.autocast():
            found: Features = self.masker.module.features(batch.images)  # type: ignore[operator]
            return found

    def probe(self, batch: Batch, step: int) -> Iterator[tuple[str, Terms]]:
        mask = self.mask(batch) if self.guided(step) else None
        yield "classifier", self.classifier_terms(self.classifier.module, batch, mask, step, alone=True)
        if step >= self.context.masker_start:
            yield "masker", self.masker_terms(self.masker.module, batch, (), step)

    def lambda1(self, step: int) -> float:
        """λ1 at a step: 0 for the first half of the masker's first `sparsity_ramp` steps, then a straight line up.

        A masker starts grey, where L_dist has next to no slope and sparsity has its full one: a classifier that
        does not mind contrast then never tells it anything before it is empty. Before EfficientNet-Lite0 a
        straight line from the first step on was already too much.
        """
        weight = self.context.objective.lambda1
        if not self.context.sparsity_ramp:
            return weight
        share = 2 * (step - self.context.masker_start) / self.context.sparsity_ramp - 1
        return min(1.0, max(0.0, share)) * weight

    def _turn(self, step: int) -> str:
        """Whose update this is: `both` each batch, or the two by turns, whole epochs, masker first."""
        if self.context.objective.alternation == "batch" or not self.guided(step):
            return "both"
        turn = int((step - self.context.warmup) / self.context.epoch) % 2
        return ("masker", "classifier")[turn]


def _described(masks: list[Tensor]) -> Terms:
    """What is logged of the masks that guided a step."""
    if not masks:
        return {}
    mask = torch.cat(masks)
    return {"mask/area": mask.mean(), "mask/binariness": (2 * mask - 1).abs().mean()}
