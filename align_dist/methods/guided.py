"""The classifier's half, shared by every method that guides Grad-CAM with a mask."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from align_dist import objectives
from align_dist.data.loader import Batch
from align_dist.data.share import GlobalBatch, Share, class_weights, pair_within_class
from align_dist.methods.base import Forward, Method
from align_dist.parallel.engine import Terms


class Mixed(NamedTuple):
    """Of the mixtures x̃: logits (B, C) and map (B, h, w); and the map (B, h, w) of each image's partner x_π."""

    logits: Tensor
    cam: Tensor
    partner_cam: Tensor


class GuidedMethod(Method):
    """L_clf = L_cls + λ3 L_egl + λ4 L_reg (paper.md section 1.1); without a mask, L_cls + λ4 L_reg."""

    silent_in_warmup: tuple[str, ...] = (
        "objective.lambda3",
        "objective.cam_normalisation",
        "objective.cam_epsilon",
        "objective.guidance_resolution",
        "training.warmup",
    )

    def share(self, batch: GlobalBatch, step: int) -> Share:
        """With λ4: each image's partner of its own class in the whole global batch, λ, and its class's weight."""
        share = super().share(batch, step)
        if self.context.objective.lambda4 == 0:
            return share
        rows = batch.rows
        partners, mixing = pair_within_class(batch, self.context.seed)
        arrays = {
            "mixing": mixing[rows],
            "class_weight": class_weights(batch)[rows],
            "partner": batch.gathered(partners[rows]),
        }
        values = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Share(share.draws, batch.draws[partners[rows]], values)

    def classifier_terms(
        self, classifier: Forward, batch: Batch, mask: Tensor | None, step: int, alone: bool = False
    ) -> Terms:
        """alone: the batch is a part of a share, or one rank's business: partners' maps come from a forward of ours."""
        objective, labels, values = self.context.objective, batch.labels, batch.values
        mixed = None
        if objective.lambda4 > 0:
            logits, cam, mixed = self._mixed_forward(classifier, batch, alone)
        elif mask is not None:
            logits, cam = classifier(batch.images, explain=labels)
        else:
            logits = classifier(batch.images)

        terms = {"classification": objectives.classification(logits, labels)}
        if mask is not None:
            terms["guidance"] = objective.lambda3 * objectives.guidance(
                cam, mask, objective.cam_normalisation, objective.guidance_resolution, objective.cam_epsilon
            )
        if mixed is not None:
            terms["regulariser"] = objective.lambda4 * objectives.mixup_regulariser(
                cam.float(),
                mixed.cam.float(),
                mixed.partner_cam.float(),
                mixed.logits,
                values["mixing"],
                labels,
                values["class_weight"],
                objective.regulariser_sparsity,
            )
        return terms

    def _mixed_forward(self, classifier: Forward, batch: Batch, alone: bool) -> tuple[Tensor, Tensor, Mixed]:
        """Logits and map of the images, and all of `Mixed`, from one forward.

        Two before one backward break DDP's BatchNorm buffers (pytorch #175024). A whole share finds its partners' maps
        among those of all ranks; a part of one would find only some of them.
        """
        assert batch.second is not None, "the share was made without partners"
        mixtures = objectives.mixture(batch.images, batch.second, batch.values["mixing"])
        stacked = [batch.images, mixtures, batch.second] if alone else [batch.images, mixtures]
        logits, cam = classifier(torch.cat(stacked), explain=batch.labels.repeat(len(stacked)))
        of_image, of_mixture, *rest = cam.chunk(len(stacked))
        partner_cam = rest[0] if alone else self.context.concatenate(of_image)[batch.values["partner"]]
        clean_logits, mixed_logits, *_ = logits.chunk(len(stacked))
        return clean_logits, of_image, Mixed(mixed_logits, of_mixture, partner_cam)
