"""A rank's share of a made-up global batch, as the loader would bring it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from align_dist.data.batch import Batch
from align_dist.data.decoder import Augmentation
from align_dist.data.share import GlobalBatch
from align_dist.data.views import ViewGeometry
from align_dist.methods.base import Method, Scalars
from align_dist.parallel.engine import Terms


def with_share(
    batch: Batch, method: Method[Any], step: int = 0, classes: int = 3, rank: int = 0, ranks: int = 1
) -> Batch:
    """The rank's images with what the method asked to go with them. batch: the global one."""
    domains = batch.domains.numpy()
    side = batch.images.shape[-1]
    sides = np.full(int(batch.samples.max()) + 1, side)
    groups = None if batch.groups is None else batch.groups.numpy()
    views = ViewGeometry(method.context.seed, Augmentation(), sides, sides)
    global_batch = GlobalBatch(batch.sample_keys, batch.labels.numpy(), classes, rank, ranks, domains, views, groups)
    share = method.share(global_batch, step)
    rows = torch.from_numpy(global_batch.rows)
    own = {name: getattr(batch, name)[rows] for name in ("images", "labels", "domains", "samples")}
    own |= {name: getattr(batch, name)[rows] for name in ("masks", "groups") if getattr(batch, name) is not None}
    second = None
    if share.second is not None:
        places = {draw: place for place, draw in enumerate(batch.sample_keys.tolist())}
        seed, like = method.context.seed, batch.images[0]
        second = torch.stack(
            [
                batch.images[places[draw]] if draw in places else made_picture(draw, like, seed)
                for draw in share.second.tolist()
            ]
        )
    assert np.array_equal(share.sample_keys, batch.sample_keys[global_batch.rows])
    return replace(batch, **own, sample_keys=share.sample_keys, second=second, values=share.values, ranks=share.ranks)


def made_picture(draw: int, like: torch.Tensor, seed: int) -> torch.Tensor:
    """A picture that depends on its draw and the seed alone."""
    generator = torch.Generator().manual_seed((draw + seed) % 2**62)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)


def take_step(method: Method[Any], batch: Batch, step: int) -> Scalars:
    """One step on one rank."""
    return method.step(with_share(batch, method, step), step)


def look(method: Method[Any], batch: Batch, step: int) -> dict[str, Terms]:
    """What a probe tells, network by network."""
    return dict(method.probe(with_share(batch, method, step), step))
