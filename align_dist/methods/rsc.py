"""RSC: representation self-challenging (Huang et al. 2020, https://arxiv.org/abs/2007.02454), as in DomainBed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.errors import ConfigError
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.modes import in_full_precision
from align_dist.options.general import RSCOptions


class RSC(Method[RSCOptions]):
    """L = CE(h(z ⊙ m), y), z the features before the head h, m the features that stay.

    The third of features with the largest gradient d h_y / d z is muted, in the third of the global batch's images
    whose p_y drops most. DomainBed's code (`domainbed/algorithms.py`) computes the gradient by autograd, which here is
    the head's row; at a share of 0 the code still mutes one feature and one image, here none. A
    backbone's own dropout before the head (EfficientNet-Lite0 has one) does not act here; DomainBed's acts before the
    features are muted.
    """

    options_type = RSCOptions
    takes_whole_batches = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if not getattr(self.classifier.module, "closed_form", False):
            raise ConfigError("classifier.backbone: rsc needs a backbone that ends in one linear layer; try resnet50")

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        def look(features: Tensor, head: nn.Module) -> tuple[Tensor, Tensor]:
            feature_mask = self.feature_mask(features.detach(), head, batch)
            return head(features * feature_mask), feature_mask

        logits, feature_mask = classifier(batch.images, inspect=look)
        return {
            "challenged": (1.0, objectives.classification(logits, batch.labels)),
            "muted": (None, 1 - feature_mask.float().mean()),
        }

    @torch.no_grad()
    def feature_mask(self, features: Tensor, head: nn.Module, batch: Batch) -> Tensor:
        """Return whether each feature stays, (B, K). Collective: images are compared over all ranks."""
        weight: Any = head.weight
        feature_mask = below_top(weight[batch.labels], self.options.features)
        of_label = batch.labels[:, None]
        # In 16 bits the drops of many images would be equal, or 0.
        with in_full_precision(features):
            features = features.to(weight.dtype)
            probabilities, muted_probabilities = (
                head(inputs).softmax(1).gather(1, of_label) for inputs in (features, features * feature_mask)
            )
        drops = (probabilities - muted_probabilities)[:, 0]
        drops_of_all = self.gather_over_ranks(drops, batch)
        return feature_mask | below_top(drops_of_all[None], self.options.images, drops)[:, None]


def below_top(values: Tensor, share: float, compared: Tensor | None = None) -> Tensor:
    """Return whether values (N, K) lie below the largest `share` of their row; all True for a share of 0.

    compared: other values (M,), compared with a single row's threshold instead.
    """
    compared = values if compared is None else compared
    if share == 0:
        return torch.ones_like(compared, dtype=torch.bool)
    threshold = values.quantile(1 - share, dim=1, keepdim=True)
    return compared < (threshold if compared.dim() == 2 else threshold[0])
