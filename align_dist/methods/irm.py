"""IRM: invariant risk minimisation (Arjovsky et al. 2019, https://arxiv.org/abs/1907.02893), as DomainBed trains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch, Share, inverse_counts, positions_within
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.methods.means import group_means
from align_dist.options.general import IRMOptions


class IRM(Method[IRMOptions]):
    """L = mean over source domains of CE_d + λ g_d,even · g_d,odd, g = d CE(s · z, y) / ds at s = 1.

    The halves are the even and odd positions among a domain's images in the global batch. The weight is 1 before
    `penalty_anneal`, then λ with a reset optimiser. DomainBed's code (`domainbed/algorithms.py`) computes g by autograd
    and gives NaN for a domain with one image; here g is in closed form, and an empty half or domain counts as zero.
    """

    options_type = IRMOptions
    takes_whole_batches = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.annealed = self.context.clock.steps(self.options.penalty_anneal)
        self.domains = len(self.context.domain_counts)
        self.sources = sum(count > 0 for count in self.context.domain_counts)

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def share(self, batch: GlobalBatch, step: int) -> Share:
        assert batch.domains is not None
        halves = 2 * batch.domains + positions_within(batch.domains) % 2
        arrays: dict[str, NDArray[Any]] = {
            "half": halves,
            "of_domain": inverse_counts(batch.domains),
            "of_half": inverse_counts(halves),
        }
        values = {name: torch.from_numpy(array[batch.rows]) for name, array in arrays.items()}
        return replace(super().share(batch, step), values=values)

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        logits, values = classifier(batch.images).float(), batch.values
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        risks = group_means(self.context, batch, losses, batch.domains, values["of_domain"], self.domains)
        slopes = scale_gradient(logits, batch.labels)
        halves = group_means(self.context, batch, slopes, values["half"], values["of_half"], 2 * self.domains)
        weight = self.options.penalty if step >= self.annealed else 1.0
        return {
            "classification": (1.0, risks.sum() / self.sources),
            "penalty": (weight, halves.view(-1, 2).prod(1).sum() / self.sources),
        }

    def resets(self, step: int) -> Sequence[str]:
        """Reset the optimiser where the weight jumps, because Adam's moments have another scale."""
        return ("classifier",) if step == self.annealed else ()


def scale_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """d CE(s · z, y) / ds at s = 1 for each image: Σ_c (p_c − 1[c = y]) z_c. logits: z (B, C). Returns (B,)."""
    expected = (logits.softmax(1) * logits).sum(1)
    return expected - logits.gather(1, labels[:, None])[:, 0]
