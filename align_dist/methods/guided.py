"""The classifier's half, shared by every method that guides Grad-CAM with a mask."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from align_dist import objectives
from align_dist.data.loader import Batch
from align_dist.methods.base import Forward, Method
from align_dist.parallel.engine import Terms


class GuidedMethod(Method):
    """L_clf = L_cls + λ3 L_egl + λ4 L_reg (paper.md section 1.1); without a mask, L_cls + λ4 L_reg."""

    silent_in_warmup: tuple[str, ...] = (
        "objective.lambda3",
        "objective.changes",
        "objective.cam_normalisation",
        "objective.cam_epsilon",
        "objective.guidance_resolution",
        "training.warmup",
    )

    def classifier_terms(self, classifier: Forward, batch: Batch, mask: Tensor | None, step: int) -> Terms:
        objective, labels = self.context.objective_at(step), batch.labels
        if objective.lambda4 > 0:
            mixed, partners, share = objectives.mix_same_class(
                batch.images, labels, mixing_generator(self.context.seed, batch)
            )
            # One forward for both: two before one backward break DDP's BatchNorm buffers (pytorch #175024).
            logits, cam = classifier(torch.cat([batch.images, mixed]), explain=torch.cat([labels, labels]))
            (logits, mixed_logits), (cam, mixed_cam) = logits.chunk(2), cam.chunk(2)
        elif mask is not None:
            logits, cam = classifier(batch.images, explain=labels)
        else:
            logits = classifier(batch.images)

        terms = {"classification": objectives.classification(logits, labels)}
        if mask is not None:
            terms["guidance"] = objective.lambda3 * objectives.guidance(
                cam, mask, objective.cam_normalisation, objective.guidance_resolution, objective.cam_epsilon
            )
        if objective.lambda4 > 0:
            terms["regulariser"] = objective.lambda4 * objectives.mixup_regulariser(
                cam.float(), mixed_cam.float(), mixed_logits, partners, share, labels, objective.regulariser_sparsity
            )
        return terms


def mixing_generator(seed: int, batch: Batch) -> torch.Generator:
    """Randomness of the mixup pairs: a pure function of the seed and the draws in this batch."""
    key = hashlib.sha256(seed.to_bytes(8, "little") + batch.draws.tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
