"""The look at each term's gradient puts no more on a rank than a training step does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from align_dist.assembly import assemble
from align_dist.config import RunConfig
from align_dist.parallel.group import Group
from align_dist.training.batches import probe_batch
from align_dist.training.monitor import gradient_norms


@pytest.mark.parametrize(("ranks", "parts"), [(1, 1), (1, 2), (2, 1), (4, 2)])
def test_it_takes_as_many_pictures_as_a_rank_has_graphs_of(squares: RunConfig, ranks: int, parts: int) -> None:
    """With their partners' pictures, whose maps it makes itself: no other rank is asked."""
    data = squares.data.model_copy(update={"micro_batches": parts})
    run = assemble(squares.model_copy(update={"data": data}))
    batch = probe_batch(replace(run, group=Group(world_size=ranks, cores=1)), run.schedule.warmup)
    assert len(batch.labels.unique()) == 2 or ranks > 1, "the training part is sorted by class"
    assert len(batch.images) == squares.data.batch_size // (ranks * parts)
    assert batch.second is not None and batch.second.shape == batch.images.shape
    norms = gradient_norms(run.method, batch, run.schedule.warmup)
    assert {"classifier/gradient_norm/regulariser", "masker/gradient_norm/distinction"} <= norms.keys()
    assert all(value > 0 for name, value in norms.items() if name.startswith("classifier"))
