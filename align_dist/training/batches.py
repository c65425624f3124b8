"""The batches of a run, in order, as one stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

from align_dist.assembly import Assembly
from align_dist.data.batch import Batch
from align_dist.data.sample_keys import SampleKeys, sample_ids, unaugmented
from align_dist.data.share import GlobalBatch, Share
from align_dist.parallel.group import Group


def batches(run: Assembly, step: int) -> Iterator[tuple[Batch, float]]:
    """This rank's batches from `step` to where the loop leaves, each with the seconds that it was waited for.

    FFCV reads one stretch at a time, up to the next step after which the loader is wanted for something else.
    """
    while step < run.schedule.end:
        stop = run.schedule.next_stop(step)
        with closing(run.loader.shares(_shares_from(run, step), stop - step)) as stretch:
            for left in range(stop - step, 0, -1):
                start = time.perf_counter()
                batch = next(stretch)
                waited = time.perf_counter() - start
                if left == 1:
                    stretch.close()  # before the loop validates with the same loader
                yield batch, waited
        step = stop


def _shares_from(run: Assembly, first: int) -> Callable[[int], Share]:
    return lambda i: share_of(run, run.order.batch(first + i), first + i)


def share_of(run: Assembly, sample_keys: SampleKeys, step: int) -> Share:
    """This rank's share of a global batch for a step."""
    samples, group, loader = sample_ids(sample_keys), run.group, run.loader
    labels, domains = loader.labels[samples], loader.domains[samples]
    groups = None if loader.groups is None else loader.groups[samples]
    classes = len(run.manifest.classes)
    whole = GlobalBatch(sample_keys, labels, classes, group.rank, group.world_size, domains, loader.views, groups)
    return run.method.share(whole, step)


def probe_batch(run: Assembly, step: int) -> Batch:
    """The images of the first step, as they are: as many as a rank has graphs of in training, of every domain."""
    alone, parts = replace(run, group=Group()), run.group.world_size * run.config.data.micro_batches
    sample_keys = unaugmented(sample_ids(run.order.batch(0))[::parts])
    (batch,) = run.loader.shares(lambda _: share_of(alone, sample_keys, step), 1)
    return batch
