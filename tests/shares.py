"""A rank's share of a made-up global batch, as the loader would bring it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from align_dist.data.loader import Batch
from align_dist.data.share import GlobalBatch
from align_dist.methods.base import Method
from align_dist.parallel.engine import Terms


def with_share(batch: Batch, method: Method, step: int = 0, classes: int = 3, rank: int = 0, ranks: int = 1) -> Batch:
    """The rank's images with what the method asked to go with them. batch: the global one."""
    told = GlobalBatch(batch.draws, batch.labels.numpy(), classes, rank, ranks)
    share = method.share(told, step)
    rows = torch.from_numpy(told.rows)
    own = {name: getattr(batch, name)[rows] for name in ("images", "labels", "domains", "samples")}
    masks = None if batch.masks is None else batch.masks[rows]
    second = None
    if share.second is not None:
        places = {draw: place for place, draw in enumerate(batch.draws.tolist())}
        second = batch.images[[places[draw] for draw in share.second.tolist()]]
    assert np.array_equal(share.draws, batch.draws[told.rows])
    return replace(batch, **own, draws=share.draws, masks=masks, second=second, values=share.values)


def take_step(method: Method, batch: Batch, step: int) -> Terms:
    """One step on one rank."""
    return method.step(with_share(batch, method, step), step)


def look(method: Method, batch: Batch, step: int) -> dict[str, Terms]:
    """What a probe tells, network by network."""
    return dict(method.probe(with_share(batch, method, step), step))
