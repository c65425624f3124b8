"""HAICS: the cross-entropy between Grad-CAM and the mask as a loss (Shen et al., CHI EA 2021,
https://doi.org/10.1145/3411763.3451798).
"""

from __future__ import annotations

from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Losses
from align_dist.methods.masked import Supervised
from align_dist.options.baselines import HaicsOptions


class HAICS(Supervised[HaicsOptions]):
    """L = CE(f(x), y) + BCE(Φ_y(x), m) after warm-up: ALIGN's L_egl with a fixed mask.

    Source: `RES.py` of https://github.com/YuyangGao/RES, which compares with HAICS. Its masks mark evidence for and
    against, and leave the rest unknown; in a mask in [0, 1] every pixel counts. Differences: the code does not squeeze
    Φ, and multiplies the mean over all pixels by the labelled share where a mean over the labelled pixels was intended.
    """

    options_type = HaicsOptions

    def supervision(self, cam: Tensor, mask: Tensor, weight: Tensor, batch: Batch) -> Losses:
        value = objectives.guidance(cam, mask, places=self.places, weight=weight)
        return {"guidance": (self.options.weight, value)}
