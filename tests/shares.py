"""A rank's share of a made-up global batch, as the loader would bring it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from align_dist.config import AugmentationConfig
from align_dist.data.batch import Batch
from align_dist.data.sample_keys import SampleKeys, sample_ids
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
    views = ViewGeometry(method.context.seed, AugmentationConfig(), sides, sides)
    global_batch = GlobalBatch(batch.sample_keys, batch.labels.numpy(), classes, rank, ranks, domains, views, groups)
    share = method.share(global_batch, step)
    rows = torch.from_numpy(global_batch.rows)
    own = {name: getattr(batch, name)[rows] for name in ("images", "labels", "domains", "samples")}
    own |= {name: getattr(batch, name)[rows] for name in ("masks", "groups") if getattr(batch, name) is not None}
    second = None if share.second is None else second_images(batch, share.second, views)
    assert np.array_equal(share.sample_keys, batch.sample_keys[global_batch.rows])
    return replace(batch, **own, sample_keys=share.sample_keys, second=second, values=share.values, ranks=share.ranks)


def second_images(batch: Batch, draws: SampleKeys, views: ViewGeometry) -> Tensor:
    """The images of these draws: those of the batch, other views of the batch's images, made-up ones for the rest."""
    places = {draw: place for place, draw in enumerate(batch.sample_keys.tolist())}
    of_sample = {sample: place for place, sample in enumerate(batch.samples.tolist())}
    images = []
    for draw, sample in zip(draws.tolist(), sample_ids(draws).tolist(), strict=True):
        if draw in places:
            images.append(batch.images[places[draw]])
        elif sample in of_sample:
            images.append(other_view(batch, of_sample[sample], draw, views))
        else:
            images.append(made_picture(draw, batch.images[0], views.seed))
    return torch.stack(images)


def other_view(batch: Batch, place: int, draw: int, views: ViewGeometry) -> Tensor:
    """The image moved from its own view to that draw's; grey where the image does not reach."""
    image = batch.images[place : place + 1]
    geometry = views.between(batch.sample_keys[place : place + 1], np.array([draw], np.uint64))
    grid = F.affine_grid(torch.from_numpy(geometry).to(image.dtype), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)[0]


def made_picture(draw: int, like: Tensor, seed: int) -> Tensor:
    """A picture that depends on its draw and the seed alone."""
    generator = torch.Generator().manual_seed((draw + seed) % 2**62)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)


def take_step(method: Method[Any], batch: Batch, step: int) -> Scalars:
    """One step on one rank."""
    return method.step(with_share(batch, method, step), step)


def look(method: Method[Any], batch: Batch, step: int) -> dict[str, Terms]:
    """What a probe tells, network by network."""
    return dict(method.probe(with_share(batch, method, step), step))
