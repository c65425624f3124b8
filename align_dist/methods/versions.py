"""Several versions of a batch's images in one forward: two before one backward break DDP's BatchNorm buffers (pytorch
#175024).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from align_dist.methods.base import Forward


class Seen(NamedTuple):
    """Of one version of a batch: logits (B, C), and the signed map (B, h, w) of each image's label where asked."""

    logits: Tensor
    cam: Tensor | None = None

    @property
    def map(self) -> Tensor:
        """The map, in float32, of who has asked for it."""
        assert self.cam is not None, "the forward was not asked for maps"
        return self.cam.float()


def see(classifier: Forward, versions: Mapping[str, Tensor], labels: Tensor, explain: bool) -> dict[str, Seen]:
    """What a classifier makes of each version (B, 3, H, W), all of the same labels (B,). explain: whether with maps."""
    count = len(versions)
    stacked = torch.cat([*versions.values()]) if count > 1 else next(iter(versions.values()))
    if not explain:
        return dict(zip(versions, map(Seen, classifier(stacked).chunk(count)), strict=True))
    logits, cams = classifier(stacked, explain=labels.repeat(count))
    return dict(zip(versions, map(Seen, logits.chunk(count), cams.chunk(count)), strict=True))


def of_another(values: Tensor, parts: int = 2) -> Tensor:
    """For each image the values (B, ...) of another image of the batch, the one 1 / parts of a batch away.

    The pairs of one process are those of any number of ranks and micro-batches whose images are a multiple of `parts`,
    and nothing is exchanged between ranks: rank r of R has every R-th image, so half of its part is half of the batch.
    Pictures of a batch are in the order of their domains, within a domain in random order.
    """
    return values.roll(len(values) // parts, 0)
