"""The masks of a network that learns them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from align_dist.data.batch import Batch
from align_dist.parallel.engine import Engine, frozen

PREFIX = "masker/"


@dataclass(frozen=True)
class LearnedMask:
    """A mask source: the masker as it is, fixed. Its features, which never learn, are found once a batch."""

    masker: Engine

    def __call__(self, batch: Batch) -> Tensor:
        with torch.no_grad(), frozen(self.masker) as masker, self.masker.autocast():
            mask: Tensor = masker(batch.images, features_in(batch))
            return mask.float()

    def prepared(self, batch: Batch) -> Batch:
        """The batch with the features of its images."""
        with torch.no_grad(), self.masker.autocast():
            found: list[Tensor] = self.masker.module.features(batch.images)  # type: ignore[operator]
        return replace(batch, values={**batch.values, **{f"{PREFIX}{index}": one for index, one in enumerate(found)}})


def features_in(batch: Batch) -> list[Tensor]:
    """What `prepared` put there, in order; nothing where the masker has none or they are not found yet."""
    return [value for name, value in batch.values.items() if name.startswith(PREFIX)]
