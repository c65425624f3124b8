"""GRADIA: Grad-CAM as near to the mask as can be (Gao et al., CSCW 2022, https://arxiv.org/abs/2202.02838)."""

from __future__ import annotations

from torch import Tensor

from align_dist.attribution import normalise, size_of
from align_dist.data.batch import Batch
from align_dist.methods.base import Losses
from align_dist.methods.masked import Supervised
from align_dist.methods.options.baselines import GradiaOptions
from align_dist.places import Places, in_cells


class GRADIA(Supervised[GradiaOptions]):
    """L = CE(f(x), y) + mean |Φ_y(x) − m| after warm-up: its second phase, every image with weights 1 and 1.

    The weights of its reasonability matrix are left out: people say which of the first phase's maps are reasonable.
    Source: https://github.com/YuyangGao/GRADIA, and `RES.py` of https://github.com/YuyangGao/RES, whose variant this
    is. What they do otherwise: the former blurs the averaged mask (3×3) and divides it by its maximum, as `res` does;
    the latter takes the nearest pixel in place of the average. Neither has an epsilon to speak of in Φ.
    """

    options_type = GradiaOptions

    def supervision(self, cam: Tensor, mask: Tensor, batch: Batch) -> Losses:
        return {"guidance": (self.options.weight, distance(cam, mask, self.places))}


def distance(cam: Tensor, mask: Tensor, places: Places | None = None) -> Tensor:
    """mean |Φ − m| over places and images. cam: (B, h, w), signed. mask: (B, H, W) in [0, 1]. In [0, 1]."""
    return (normalise(cam) - in_cells(mask.float(), size_of(cam), places)).abs().mean()
