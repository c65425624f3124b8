"""Guidance by a mask that is not learned: the controls and ablations of ALIGN."""

from __future__ import annotations

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Forward, Loss, Losses
from align_dist.methods.guided import Guided
from align_dist.methods.masks.fixed import constant, given, grey
from align_dist.methods.options import FixedMaskOptions
from align_dist.methods.regularised import Regularised


class FixedMask(Guided[FixedMaskOptions], Regularised[FixedMaskOptions]):
    """L = L_cls + λ3 L_egl + λ4 L_reg after warm-up, L_cls + λ4 L_reg before."""

    options_type = FixedMaskOptions

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        sources = {"constant": constant(self.options.constant), "grey": grey, "given": given}
        mask = sources[self.options.mask](batch) if self.is_guided(step) else None
        seen = self.look(classifier, batch, explain=mask is not None)
        return {
            "classification": (1.0, objectives.classification(seen.logits, batch.labels)),
            **self.guidance(seen.cam, mask),
            **self.regulariser(seen, batch),
        }
