"""One forward pass for several versions of a batch's images, because two forward passes before one backward break DDP's
BatchNorm buffers (pytorch #175024).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from align_dist.methods.base import Forward


class Outputs(NamedTuple):
    """Outputs for one version of a batch: logits (B, C), and the signed map (B, h, w) of each label, if requested."""

    logits: Tensor
    cam: Tensor | None = None

    @property
    def map(self) -> Tensor:
        """The map in float32."""
        assert self.cam is not None, "the forward pass was run without maps"
        return self.cam.float()


def forward_versions(
    classifier: Forward, versions: Mapping[str, Tensor], labels: Tensor, explain: bool
) -> dict[str, Outputs]:
    """A classifier's outputs for each version (B, 3, H, W), all with labels (B,). explain: whether to compute maps."""
    count = len(versions)
    stacked = torch.cat([*versions.values()]) if count > 1 else next(iter(versions.values()))
    if not explain:
        return dict(zip(versions, map(Outputs, classifier(stacked).chunk(count)), strict=True))
    logits, cams = classifier(stacked, explain=labels.repeat(count))
    return dict(zip(versions, map(Outputs, logits.chunk(count), cams.chunk(count)), strict=True))


def other_image_values(values: Tensor, parts: int = 2) -> Tensor:
    """Values (B, ...) of another image of the batch for each image, the one 1 / parts of a batch away: with two or
    three source domains (data.balance=domains) and parts = 2 always one of another domain.

    The pairs are the same for any number of ranks and micro-batches whose sizes are multiples of `parts`, without
    communication: rank r of R has every R-th image, so half of its part is half of the batch. Within a domain images
    are in random order, and so are all with data.balance=groups (`data.sample_keys.Order`): no class or group has a
    fixed partner.
    """
    return values.roll(len(values) // parts, 0)
