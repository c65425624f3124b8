"""Mixup between domains (Zhang et al. 2018, https://arxiv.org/abs/1710.09412; Xu et al. 2020,
https://arxiv.org/abs/1912.01805), as DomainBed trains it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch, Ids, Share, beta_shares, generator_of
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.options.general import MixupOptions


class Mixup(Method[MixupOptions]):
    """L = λ CE(f(x̃), y) + (1 − λ) CE(f(x̃), y_π), x̃ = λ x + (1 − λ) x_π, the mean over images.

    Differences to DomainBed's code (`domainbed/algorithms.py`): the code averages over pairs of domains, which is the
    same for domains of equal size; pairs images by position, and drops images of the larger domain without a partner;
    and mixes a single domain with itself image by image, which is ERM, while here the domain's images are mixed with
    each other.
    """

    options_type = MixupOptions

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def share(self, batch: GlobalBatch, step: int) -> Share:
        rows, (partners, mixing) = batch.rows, pair_across_domains(batch, self.options.alpha, self.context.seed)
        others = partners[rows]
        values = {"mixing": torch.from_numpy(mixing[rows]), "partner_label": torch.from_numpy(batch.labels[others])}
        return Share(batch.sample_keys[rows], batch.sample_keys[others], values, batch.ranks)

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        assert batch.second is not None, "the share was made without partners"
        share, others = batch.values["mixing"], batch.values["partner_label"]
        logits = classifier(objectives.mixture(batch.images, batch.second, share)).float()
        return {"mixed_classification": (1.0, mixed_cross_entropy(logits, batch.labels, others, share))}


def mixed_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """λ CE(z, y) + (1 − λ) CE(z, y_π), the mean over images. logits: (B, C). labels, others: (B,). share: λ (B,)."""
    own, other = (F.cross_entropy(logits, target, reduction="none") for target in (labels, others))
    return (share * own + (1 - share) * other).mean()


def pair_across_domains(batch: GlobalBatch, alpha: float, seed: int) -> tuple[Ids, NDArray[np.float32]]:
    """π and λ over the global batch, (G,) each: a pure function of the seed and the sample keys.

    The domains of the batch form a random cycle. The images of each domain are paired with the images of the next in
    random order, repeated where the next has fewer, all with one λ ~ Beta(alpha, alpha).
    """
    assert batch.domains is not None
    generator, domains = generator_of(batch, seed), np.unique(batch.domains)
    circle = domains[torch.randperm(len(domains), generator=generator).numpy()]
    shares = beta_shares(alpha, len(domains), generator)
    partners, mixing = np.empty(len(batch.labels), np.int64), np.empty(len(batch.labels), np.float32)
    for domain, following, share in zip(circle, np.roll(circle, -1), shares, strict=True):
        members, others = (np.flatnonzero(batch.domains == number) for number in (domain, following))
        order = others[torch.randperm(len(others), generator=generator).numpy()]
        partners[members], mixing[members] = np.resize(order, len(members)), share
    return partners, mixing
