"""DRE's mixup regulariser L_reg, for every method that has λ4 (paper.md section 1.4)."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch, Share, class_weights, pair_within_class
from align_dist.methods.base import Forward, Losses, Method
from align_dist.methods.options import RegularisedOptions

R = TypeVar("R", bound=RegularisedOptions)


class Mixed(NamedTuple):
    """Of the mixtures x̃: logits (B, C) and map (B, h, w); and the map (B, h, w) of each image's partner x_π."""

    logits: Tensor
    cam: Tensor
    partner_cam: Tensor


class Seen(NamedTuple):
    """What one forward tells: logits (B, C), signed Grad-CAM (B, h, w) where asked for, and of the mixtures with λ4."""

    logits: Tensor
    cam: Tensor | None = None
    mixed: Mixed | None = None


class Regularised(Method[R]):
    """A method whose classifier may be regularised."""

    def share(self, batch: GlobalBatch, step: int) -> Share:
        """With λ4: each image's partner of its own class in the whole global batch, λ, and its class's weight."""
        share = super().share(batch, step)
        if self.options.lambda4 == 0:
            return share
        rows = batch.rows
        partners, mixing = pair_within_class(batch, self.context.seed)
        arrays = {
            "mixing": mixing[rows],
            "class_weight": class_weights(batch)[rows],
            "partner": batch.gathered(partners[rows]),
        }
        values = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Share(share.draws, batch.draws[partners[rows]], values, batch.ranks)

    def look(self, classifier: Forward, batch: Batch, explain: bool) -> Seen:
        """All that the classifier's terms need, from one forward: two before one backward break DDP's BatchNorm
        buffers (pytorch #175024). explain: whether the map is needed without λ4.

        Partners' maps are found among those of all ranks; a part of a share has to make them itself.
        """
        labels = batch.labels
        if self.options.lambda4 == 0:
            return Seen(*classifier(batch.images, explain=labels)) if explain else Seen(classifier(batch.images))
        assert batch.second is not None, "the share was made without partners"
        mixtures = objectives.mixture(batch.images, batch.second, batch.values["mixing"])
        stacked = [batch.images, mixtures] if batch.whole else [batch.images, mixtures, batch.second]
        logits, cam = classifier(torch.cat(stacked), explain=labels.repeat(len(stacked)))
        of_image, of_mixture, *rest = cam.chunk(len(stacked))
        partner_cam = self._everyones(of_image, batch)[batch.values["partner"]] if batch.whole else rest[0]
        clean_logits, mixed_logits, *_ = logits.chunk(len(stacked))
        return Seen(clean_logits, of_image, Mixed(mixed_logits, of_mixture, partner_cam))

    def regulariser(self, seen: Seen, batch: Batch) -> Losses:
        """λ4 L_reg; nothing without λ4."""
        if seen.mixed is None or seen.cam is None:
            return {}
        value = objectives.mixup_regulariser(
            seen.cam.float(),
            seen.mixed.cam.float(),
            seen.mixed.partner_cam.float(),
            seen.mixed.logits,
            batch.values["mixing"],
            batch.labels,
            batch.values["class_weight"],
            self.options.regulariser_sparsity,
        )
        return {"regulariser": (self.options.lambda4, value)}

    def _everyones(self, values: Tensor, batch: Batch) -> Tensor:
        return self.context.concatenate(values) if batch.ranks > 1 else values
