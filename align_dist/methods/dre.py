"""DRE: the explanation of a mixture should be the mixture of explanations (Li et al., CVPR 2023,
https://arxiv.org/abs/2303.16390).
"""

from __future__ import annotations

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Forward, Loss, Losses
from align_dist.methods.regularised import Regularised
from align_dist.methods.versions import forward_versions
from align_dist.options.baselines import DreOptions


class DRE(Regularised[DreOptions]):
    """L = CE(f(x), y) + λ4 L_reg, L_reg = R_con + 0.5 R_spa + 0.1 R_ce, from the first step: ALIGN without guidance.

    Source: `dre/mixuploss.py` of https://github.com/tangli-udel/DRE. Differences: the code has no epsilon in the maps'
    normalisation (`normalise` has 1 % of a map's largest absolute value), and three forward passes per class; here one
    forward pass takes images and mixtures, and a BatchNorm that is not frozen normalises over both.
    """

    options_type = DreOptions

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        mixtures = self.mixtures(batch)
        outputs = forward_versions(
            classifier, {"image": batch.images, **mixtures}, batch.labels, explain=bool(mixtures)
        )
        return {
            "classification": (1.0, objectives.classification(outputs["image"].logits, batch.labels)),
            **self.regulariser(outputs, batch),
        }
