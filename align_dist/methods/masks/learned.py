"""Masks from a trained masker."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from align_dist.data.batch import Batch
from align_dist.parallel.engine import Engine, frozen

PREFIX = "masker/"


@dataclass(frozen=True)
class LearnedMask:
    """A mask source: the frozen masker. Frozen features of the masker are computed once per batch."""

    masker: Engine

    def __call__(self, batch: Batch) -> Tensor:
        with torch.no_grad(), frozen(self.masker) as masker, self.masker.autocast():
            mask: Tensor = masker(batch.images, features_of(batch))
            return mask.float()

    def with_features(self, batch: Batch) -> Batch:
        """The batch with the masker's features of its images."""
        with torch.no_grad(), self.masker.autocast():
            features: list[Tensor] = self.masker.module.features(batch.images)  # type: ignore[operator]
        return replace(
            batch, values={**batch.values, **{f"{PREFIX}{index}": feature for index, feature in enumerate(features)}}
        )


def features_of(batch: Batch) -> list[Tensor]:
    """The features that `with_features` added, in order; empty without features."""
    return [value for name, value in batch.values.items() if name.startswith(PREFIX)]
