"""CARE: attention inside the object's region and not outside (Zhuang et al., MIDL 2019 and
https://arxiv.org/abs/2307.10036).
"""

from __future__ import annotations

from torch import Tensor

from align_dist.attribution import normalise, size_of
from align_dist.data.batch import Batch
from align_dist.methods.base import Losses
from align_dist.methods.masked import Supervised
from align_dist.options.baselines import CareOptions
from align_dist.places import Places, upsample_to_image


class CARE(Supervised[CareOptions]):
    """L = (1 − α) CE(f(x), y) + α mean a after warm-up, a = −min(ΣΦ·inner, τ) + ΣΦ·outer.

    Source: `src/loss.py` and `src/trainer.py` of https://github.com/JiaxinZhuang/CARE. Differences: the code sums a
    over images, and its backward pass for Φ also adds the gradient of Σ f_y to every update; α, τ and the scaling of
    inner and outer are not published. Here inner and outer each sum to 1, so that τ is a mean of Φ, in [0, 1]. Φ has
    the epsilon of `normalise`, the code's has none.
    """

    options_type = CareOptions

    @property
    def classification_weight(self) -> float:
        return 1 - self.options.weight

    def supervision(self, cam: Tensor, mask: Tensor, weight: Tensor, batch: Batch) -> Losses:
        value = attention(cam, mask, self.options.inner_threshold, self.places, weight)
        return {"attention": (self.options.weight, value)}


def attention(
    cam: Tensor, mask: Tensor, inner_threshold: float, places: Places | None = None, weight: Tensor | float = 1.0
) -> Tensor:
    """mean a, inner = m / Σm, outer = (1 − m) / Σ(1 − m), Φ upsampled to the mask; an empty region counts as 0.

    cam: (B, h, w), signed. mask: (B, H, W) in [0, 1]. weight: of each image (B,). Scalar in [−τ, 1].
    """
    attribution = upsample_to_image(normalise(cam), size_of(mask), places)
    inner, outer = (_mean_in(attribution, region.float()) for region in (mask, 1 - mask))
    return (weight * (outer - inner.clamp_max(inner_threshold))).mean()


def _mean_in(maps: Tensor, region: Tensor) -> Tensor:
    """Means (B,) of maps (B, H, W), weighted by regions of the same shape."""
    return (maps * region).sum((1, 2)) / region.sum((1, 2)).clamp_min(1e-6)
