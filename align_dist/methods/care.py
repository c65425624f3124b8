"""CARE: attention inside the object's region and not around it (Zhuang et al., MIDL 2019 and
https://arxiv.org/abs/2307.10036).
"""

from __future__ import annotations

from torch import Tensor

from align_dist.attribution import normalise, size_of
from align_dist.data.batch import Batch
from align_dist.methods.base import Losses
from align_dist.methods.masked import Supervised
from align_dist.methods.options.baselines import CareOptions
from align_dist.places import Places, in_image


class CARE(Supervised[CareOptions]):
    """L = (1 − α) CE(f(x), y) + α mean a after warm-up, a = −min(ΣΦ·inner, τ) + ΣΦ·outer.

    Source: `src/loss.py` and `src/trainer.py` of https://github.com/JiaxinZhuang/CARE. What they do otherwise: a is
    summed over images; α and τ lie in a file that is not published, nor is how inner and outer are scaled: here each
    sums to 1, so that τ is a mean of Φ, in [0, 1].
    """

    options_type = CareOptions

    @property
    def classification_weight(self) -> float:
        return 1 - self.options.weight

    def supervision(self, cam: Tensor, mask: Tensor, batch: Batch) -> Losses:
        return {"attention": (self.options.weight, attention(cam, mask, self.options.inner_threshold, self.places))}


def attention(cam: Tensor, mask: Tensor, inner_threshold: float, places: Places | None = None) -> Tensor:
    """mean a, inner = m / Σm, outer = (1 − m) / Σ(1 − m), Φ enlarged to the mask; a region without a pixel is 0.

    cam: (B, h, w), signed. mask: (B, H, W) in [0, 1]. In [−τ, 1].
    """
    attribution = in_image(normalise(cam), size_of(mask), places)
    inner, outer = (_mean_in(attribution, region.float()) for region in (mask, 1 - mask))
    return (outer - inner.clamp_max(inner_threshold)).mean()


def _mean_in(maps: Tensor, region: Tensor) -> Tensor:
    """Means of maps (B, H, W), weighted by regions of the same shape, (B,)."""
    return (maps * region).sum((1, 2)) / region.sum((1, 2)).clamp_min(1e-6)
