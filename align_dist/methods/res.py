"""RES-G: explanation supervision by inaccurate masks (Gao et al., KDD 2022, https://arxiv.org/abs/2206.13413)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from align_dist.attribution import normalise, size_of
from align_dist.data.batch import Batch
from align_dist.methods.base import Losses
from align_dist.methods.masked import Supervised
from align_dist.options.baselines import ResOptions
from align_dist.places import pool_to_cells

STEEPNESS = 5
# Offset of a threshold above a value, so that the value is rejected.
ABOVE = 1e-4


class RES(Supervised[ResOptions]):
    """L = CE(f(x), y) + relu(mean |tanh(5 (Φ − a)) − m±| − η) + mean |Φ − g(m)| after warm-up.

    m± = 2m − 1, from −1 (background) over 0 (unknown, not counted) to 1; a: the threshold of Φ that separates object
    and background best over the global batch; g: a 3×3 Gaussian, divided by its maximum.
    Source: `RES.py` of https://github.com/YuyangGao/RES. Differences: the code's masks are −1, 0 or 1, sampled at the
    nearest pixel, with −1 only where people marked what a model should not use; here all that is not the object counts
    as such. Among equally good thresholds the code takes the first, here the lowest. Φ's epsilon is 1e-6 in the code.
    The first mean is over the cells of images with a mask, as in the code; the second as in `Supervised.supervision`.
    """

    options_type = ResOptions
    takes_whole_batches = True

    def supervision(self, cam: Tensor, mask: Tensor, weight: Tensor, batch: Batch) -> Losses:
        assert batch.whole, "the threshold over the global batch needs a rank's whole batch"
        attribution = normalise(cam)
        target = pool_to_cells(mask.float(), size_of(cam), self.places)
        image_weight = weight.view(-1, 1, 1)
        signs = image_weight * (2 * target - 1)  # without a mask all cells are unknown
        attributions, signs = self.gather_over_ranks(torch.stack([attribution, signs], dim=1), batch).unbind(1)
        return {
            "disagreement": (self.options.weight, disagreement(attributions, signs, self.options.slack)),
            "imputation": (self.options.weight, (image_weight * (attribution - blurred(target)).abs()).mean()),
        }


def disagreement(attribution: Tensor, signs: Tensor, slack: float) -> Tensor:
    """relu(mean |tanh(5 (Φ − a)) − m±| − η), the mean over cells with m± ≠ 0. Both (B, h, w). Scalar in [0, 2]."""
    distance = (torch.tanh(STEEPNESS * (attribution - threshold(attribution, signs))) - signs).abs()
    known = (signs != 0).to(distance.dtype)
    return ((distance * known).sum() / known.sum().clamp_min(1) - slack).relu()


@torch.no_grad()
def threshold(attribution: Tensor, signs: Tensor) -> Tensor:
    """The threshold a with the largest sum of the share of object cells with Φ ≥ a and the share of background cells
    with Φ < a; 0-d, without gradient.

    Candidates are the values of object cells, and just above the values of background cells, in O(n log n) by sorting.
    """
    values, signs = attribution.flatten(), signs.flatten()
    positive, negative = signs > 0, signs < 0
    candidates = torch.where(negative, values + ABOVE, values)
    recall = 1 - _below(candidates, values, positive)
    score = torch.where(signs != 0, recall + _below(candidates, values, negative), -1.0)
    return torch.where(score == score.max(), candidates, torch.inf).amin()


def _below(bounds: Tensor, values: Tensor, selection: Tensor) -> Tensor:
    """Share of the selected values below each bound; 0 for an empty selection."""
    sorted_values = torch.where(selection, values, torch.inf).sort().values
    return torch.searchsorted(sorted_values, bounds) / selection.sum().clamp_min(1)


def blurred(mask: Tensor) -> Tensor:
    """g(m): (¼, ½, ¼) along rows and columns, with reflected edges, divided by each mask's maximum. (B, h, w)."""
    padded = F.pad(mask[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
    down = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    smooth = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 4
    return smooth / smooth.amax((1, 2), keepdim=True).clamp_min(1e-6)
