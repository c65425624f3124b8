"""Small made-up methods, each for one part of the contract that methods of the product do not need yet.

Importing this registers them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align_dist import objectives
from align_dist.attribution import carried_over, normalise
from align_dist.data.batch import Batch
from align_dist.data.draws import second_views
from align_dist.data.share import GlobalBatch, Share, inverse_counts
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.methods.means import group_means
from align_dist.methods.options import Options
from align_dist.methods.registry import METHODS, Entry
from align_dist.parallel.engine import input_gradient
from align_dist.schema.values import Positive, option

DOMAINS = 2


class WorstOptions(Options):
    eta: Positive = option(0.5)


class Worst(Method[WorstOptions]):
    """GroupDRO: a state, and means over the domains of the global batch."""

    options_type = WorstOptions
    takes_whole_batches = True

    def initial_state(self) -> dict[str, Tensor]:
        device = next(self.classifier.module.parameters()).device
        return {"share": torch.full((DOMAINS,), 1 / DOMAINS, device=device)}

    def share(self, batch: GlobalBatch, step: int) -> Share:
        assert batch.domains is not None
        inverse = torch.from_numpy(inverse_counts(batch.domains)[batch.rows])
        return replace(super().share(batch, step), values={"inverse": inverse})

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.worst}

    def worst(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        each = F.cross_entropy(classifier(batch.images).float(), batch.labels, reduction="none")
        means = group_means(self.context, batch, each, batch.domains, batch.values["inverse"], DOMAINS)
        grown = self.state["share"] * (self.options.eta * means.detach()).exp()
        self.state["share"] = grown / grown.sum()
        return {"worst": (1.0, self.state["share"] @ means)}


class Restarting(Method[Options]):
    """ERM whose optimiser forgets before step 2, as IRM's does."""

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classification}

    def classification(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        return {"classification": (1.0, objectives.classification(classifier(batch.images), batch.labels))}

    def resets(self, step: int) -> Sequence[str]:
        return ("classifier",) if step == 2 else ()


class Dropping(Method[Options]):
    """RSC's half: the features before the head that speak most for the label are taken away."""

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.challenged}

    def challenged(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        def look(features: Tensor, head: nn.Module) -> Any:
            weight: Any = head.weight
            evidence = (features * weight.detach()[batch.labels]).detach()
            kept = evidence < evidence.quantile(2 / 3, dim=1, keepdim=True)
            return head(features * kept)

        return {"challenged": (1.0, objectives.classification(classifier(batch.images, inspect=look), batch.labels))}


class Salient(Method[Options]):
    """SGT's half: the image without the pixels whose input gradient, in evaluation mode, is small."""

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.both}

    def prepare(self, batch: Batch, step: int) -> Batch:
        gradient = input_gradient(self.classifier, batch.images, batch.labels).mean(1, keepdim=True)
        kept = gradient > gradient.mean((2, 3), keepdim=True)
        return replace(batch, values={**batch.values, "kept": kept})

    def both(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        images = torch.cat([batch.images, batch.images * batch.values["kept"]])
        plain, masked = classifier(images).chunk(2)
        return {
            "classification": (1.0, objectives.classification(plain, batch.labels)),
            "masked": (0.5, objectives.classification(masked, batch.labels)),
        }


class TwoViews(Method[Options]):
    """CGC's positive pair: the map of a second view against that of the first, moved as the picture was."""

    def share(self, batch: GlobalBatch, step: int) -> Share:
        assert batch.views is not None
        share = super().share(batch, step)
        second = second_views(share.draws)
        geometry = torch.from_numpy(batch.views.between(share.draws, second))
        return replace(share, second=second, values={"geometry": geometry})

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.consistent}

    def consistent(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        assert batch.second is not None
        logits, cam = classifier(torch.cat([batch.images, batch.second]), explain=batch.labels.repeat(2))
        first, second = normalise(cam.float()).chunk(2)
        moved = carried_over(first, batch.values["geometry"].to(first.dtype))
        return {
            "classification": (1.0, objectives.classification(logits, batch.labels.repeat(2))),
            "consistency": (0.5, (moved - second).abs().mean()),
        }


MADE_UP = {"made_up_" + cls.__name__.lower(): cls for cls in (Worst, Restarting, Dropping, Salient, TwoViews)}
METHODS.update({name: Entry(f"made_up:{cls.__name__}") for name, cls in MADE_UP.items()})
sys.modules["align_dist.methods.made_up"] = sys.modules[__name__]
