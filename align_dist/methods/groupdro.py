"""GroupDRO: distributionally robust optimisation over groups (Sagawa et al. 2020, https://arxiv.org/abs/1911.08731)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch, Share, inverse_counts
from align_dist.methods.base import Context, Forward, Loss, Losses, Method
from align_dist.methods.means import group_means
from align_dist.options.general import GroupDROOptions
from align_dist.parallel.engine import Engine


class GroupDRO(Method[GroupDROOptions]):
    """L = Σ_g q_g CE_g, after q_g ← q_g exp(η CE_g), normalised; q starts uniform.

    CE_g: the mean over a group's images in the global batch. g: class and spurious attribute as in the paper, or source
    domain as in DomainBed's code (`domainbed/algorithms.py`), where every batch holds every domain, as here with
    data.balance=domains. A group absent from the batch has loss 0, as in the authors' code, and a group without
    training images has weight 0. The authors draw groups equally often, with replacement (`--reweight_groups`);
    data.balance=groups gives every group an equal part of each batch, without.
    """

    options_type = GroupDROOptions
    takes_whole_batches = True

    def __init__(self, networks: Mapping[str, Engine], options: GroupDROOptions, context: Context) -> None:
        self.of_groups = options.weighs_groups(len(context.group_counts))
        self.counts = context.group_counts if self.of_groups else context.domain_counts
        super().__init__(networks, options, context)

    def initial_state(self) -> dict[str, Tensor]:
        weight = next(self.classifier.module.parameters())
        present = (torch.tensor(self.counts) > 0).to(weight.device, torch.float32)
        return {"group_weights": present / present.sum()}

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def share(self, batch: GlobalBatch, step: int) -> Share:
        groups = batch.groups if self.of_groups else batch.domains
        assert groups is not None
        arrays: dict[str, NDArray[Any]] = {"group": groups, "inverse": inverse_counts(groups)}
        values = {name: torch.from_numpy(array[batch.rows]) for name, array in arrays.items()}
        return replace(super().share(batch, step), values=values)

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        losses = F.cross_entropy(classifier(batch.images).float(), batch.labels, reduction="none")
        means = group_means(
            self.context, batch, losses, batch.values["group"], batch.values["inverse"], len(self.counts)
        )
        weights = self.state["group_weights"] * (self.options.eta * means.detach()).exp()
        self.state["group_weights"] = weights / weights.sum()
        return {
            "robust": (1.0, self.state["group_weights"] @ means),
            "largest_group_weight": (None, self.state["group_weights"].max()),
        }
