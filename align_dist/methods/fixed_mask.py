"""Guidance by a fixed mask: the controls and ablations of ALIGN."""

from __future__ import annotations

from align_dist.data.batch import Batch
from align_dist.methods.base import Forward, Loss, Losses
from align_dist.methods.guided import Guided
from align_dist.methods.masked import FixedSource
from align_dist.options import FixedMaskOptions


class FixedMask(FixedSource[FixedMaskOptions], Guided[FixedMaskOptions]):
    """L = L_cls + λ3 L_egl + λ4 L_reg + `exchange` L_cls(exchanged) after warm-up, L_cls + λ4 L_reg before.

    Images without an object in a given mask have no L_egl and are not exchanged.
    """

    options_type = FixedMaskOptions

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        mask = self.masks(batch, step)
        return self.guided_loss(self.outputs(classifier, batch, mask), batch, mask)
