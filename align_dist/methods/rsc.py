"""RSC: representation self-challenging (Huang et al. 2020, https://arxiv.org/abs/2007.02454), as in DomainBed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.errors import ConfigError
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.methods.options.general import RSCOptions


class RSC(Method[RSCOptions]):
    """L = CE(h(z ⊙ m), y), z the features before the head h, m the features that stay.

    Muted are the features of the largest gradient d h_y / d z, a third of them, in the third of the global batch's
    images whose p_y falls most by it. DomainBed's code (`domainbed/algorithms.py`) finds the gradient by autograd, here
    it is the head's own row; at a share of 0 it still mutes one feature and one image, here none.
    """

    options_type = RSCOptions
    takes_whole_batches = True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        if not getattr(self.classifier.module, "closed_form", False):
            raise ConfigError("classifier.backbone: rsc mutes what one linear layer takes; take one that ends in it")

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.challenged}

    def challenged(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        def look(features: Tensor, head: nn.Module) -> tuple[Tensor, Tensor]:
            kept = self.kept(features.detach(), head, batch)
            return head(features * kept), kept

        logits, kept = classifier(batch.images, inspect=look)
        return {
            "challenged": (1.0, objectives.classification(logits, batch.labels)),
            "muted": (None, 1 - kept.float().mean()),
        }

    @torch.no_grad()
    def kept(self, features: Tensor, head: nn.Module, batch: Batch) -> Tensor:
        """Which features (B, K) stay. Collective: images are compared with those of all ranks."""
        weight: Any = head.weight
        stays = below_top(weight[batch.labels], self.options.features)
        of_label = batch.labels[:, None]
        whole, muted = (head(seen).float().softmax(1).gather(1, of_label) for seen in (features, features * stays))
        falls = (whole - muted)[:, 0]
        everyones = self.everyones(falls, batch)
        return stays | below_top(everyones[None], self.options.images, falls)[:, None]


def below_top(values: Tensor, share: float, compared: Tensor | None = None) -> Tensor:
    """Whether values (N, K) lie below the largest `share` of their row, or others with one row's; all where it is 0."""
    compared = values if compared is None else compared
    if share == 0:
        return torch.ones_like(compared, dtype=torch.bool)
    threshold = values.quantile(1 - share, dim=1, keepdim=True)
    return compared < (threshold if compared.dim() == 2 else threshold[0])
