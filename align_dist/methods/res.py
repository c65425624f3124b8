"""RES-G: supervision that bears inaccurate masks (Gao et al., KDD 2022, https://arxiv.org/abs/2206.13413)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from align_dist.attribution import normalise, size_of
from align_dist.data.batch import Batch
from align_dist.methods.base import Losses
from align_dist.methods.masked import Supervised
from align_dist.methods.options.baselines import ResOptions
from align_dist.places import in_cells

STEEPNESS = 5
# Above a rejected value, so that it is rejected.
ABOVE = 1e-4


class RES(Supervised[ResOptions]):
    """L = CE(f(x), y) + relu(mean |tanh(5 (Φ − a)) − m±| − η) + mean |Φ − g(m)| after warm-up.

    m± = 2m − 1, from −1 (background) over 0 (unknown, not counted) to 1; a: the threshold of Φ that tells the two
    apart best over the whole global batch; g: a 3×3 Gaussian, divided by its maximum.
    Source: `RES.py` of https://github.com/YuyangGao/RES. What it does otherwise: its masks are −1, 0 or 1, brought to
    Φ's places by the nearest pixel; of equally good thresholds it takes the first it meets, here the lowest.
    """

    options_type = ResOptions
    takes_whole_batches = True

    def supervision(self, cam: Tensor, mask: Tensor, batch: Batch) -> Losses:
        assert batch.whole, "a part of a batch has no threshold of the global one"
        attribution = normalise(cam)
        wanted = in_cells(mask.float(), size_of(cam), self.places)
        attributions, signs = self.everyones(torch.stack([attribution, 2 * wanted - 1], dim=1), batch).unbind(1)
        return {
            "disagreement": (self.options.weight, disagreement(attributions, signs, self.options.slack)),
            "imputation": (self.options.weight, (attribution - blurred(wanted)).abs().mean()),
        }


def disagreement(attribution: Tensor, signs: Tensor, slack: float) -> Tensor:
    """relu(mean |tanh(5 (Φ − a)) − m±| − η), the mean over places where m± is not 0. Both (B, h, w). In [0, 2]."""
    distance = (torch.tanh(STEEPNESS * (attribution - threshold(attribution, signs))) - signs).abs()
    known = (signs != 0).to(distance.dtype)
    return ((distance * known).sum() / known.sum().clamp_min(1) - slack).relu()


@torch.no_grad()
def threshold(attribution: Tensor, signs: Tensor) -> Tensor:
    """The a at which most of what is for has Φ ≥ a and most of what is against Φ < a, as shares; 0-d, a constant.

    Tried: the values of what is for, and just above those of what is against, by sorting both: n log n.
    """
    values, signs = attribution.flatten(), signs.flatten()
    here, against = signs > 0, signs < 0
    tried = torch.where(against, values + ABOVE, values)
    accepted = 1 - _below(tried, values, here)
    score = torch.where(signs != 0, accepted + _below(tried, values, against), -1.0)
    return torch.where(score == score.max(), tried, torch.inf).amin()


def _below(bounds: Tensor, values: Tensor, chosen: Tensor) -> Tensor:
    """Of the chosen values the share below each bound; 0 where none is chosen."""
    ordered = torch.where(chosen, values, torch.inf).sort().values
    return torch.searchsorted(ordered, bounds) / chosen.sum().clamp_min(1)


def blurred(mask: Tensor) -> Tensor:
    """g(m): (¼, ½, ¼) along rows and columns, mirrored at the edges, divided by each mask's maximum. (B, h, w)."""
    padded = F.pad(mask[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
    down = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    smooth = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 4
    return smooth / smooth.amax((1, 2), keepdim=True).clamp_min(1e-6)
