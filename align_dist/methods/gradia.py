"""GRADIA: the distance between Grad-CAM and the mask as a loss (Gao et al., CSCW 2022, https://arxiv.org/abs/2202.02838)."""

from __future__ import annotations

from torch import Tensor

from align_dist.attribution import normalise, size_of
from align_dist.data.batch import Batch
from align_dist.methods.base import Losses
from align_dist.methods.masked import Supervised
from align_dist.options.baselines import GradiaOptions
from align_dist.places import Places, pool_to_cells


class GRADIA(Supervised[GradiaOptions]):
    """L = CE(f(x), y) + mean |Φ_y(x) − m| after warm-up: the second phase, with weights 1 and 1 for every
    image with a mask.

    The weights of the reasonability matrix are left out, because people judge the first phase's maps for it. Source:
    https://github.com/YuyangGao/GRADIA, and `RES.py` of https://github.com/YuyangGao/RES, whose variant this is.
    Differences: the former blurs the averaged mask (3×3) and divides by the maximum, like `res`; the latter takes the
    nearest pixel instead of the average. Neither has a notable epsilon in Φ, where `normalise` has
    1 % of a map's largest absolute value.
    """

    options_type = GradiaOptions

    def supervision(self, cam: Tensor, mask: Tensor, weight: Tensor, batch: Batch) -> Losses:
        return {"guidance": (self.options.weight, distance(cam, mask, self.places, weight))}


def distance(cam: Tensor, mask: Tensor, places: Places | None = None, weight: Tensor | float = 1.0) -> Tensor:
    """mean |Φ − m| over cells and images.

    cam: (B, h, w), signed. mask: (B, H, W) in [0, 1]. weight: of each image (B,). Scalar in [0, 1].
    """
    difference = normalise(cam) - pool_to_cells(mask.float(), size_of(cam), places)
    return (weight * difference.abs().mean((1, 2))).mean()
