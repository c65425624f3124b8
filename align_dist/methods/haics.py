"""HAICS: Grad-CAM as a prediction of the mask, by cross-entropy (Shen et al., CHI EA 2021,
https://doi.org/10.1145/3411763.3451798).
"""

from __future__ import annotations

from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Losses
from align_dist.methods.masked import Supervised
from align_dist.methods.options.baselines import HaicsOptions


class HAICS(Supervised[HaicsOptions]):
    """L = CE(f(x), y) + BCE(Φ_y(x), m) after warm-up: ALIGN's L_egl by a mask that nobody learns.

    Source: `RES.py` of https://github.com/YuyangGao/RES, which compares with it. Its masks mark evidence for, evidence
    against and leave the rest unknown; a mask in [0, 1] speaks of every pixel, so that all of them count. What the
    code does otherwise: no squeezing of Φ; and it multiplies the mean over all pixels by the labelled share, where a
    mean over the labelled pixels was meant.
    """

    options_type = HaicsOptions

    def supervision(self, cam: Tensor, mask: Tensor, batch: Batch) -> Losses:
        return {"guidance": (self.options.weight, objectives.guidance(cam, mask, places=self.places))}
