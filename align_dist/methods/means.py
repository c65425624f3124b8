"""Means over the groups of a global batch, for any world size."""

from __future__ import annotations

from torch import Tensor

from align_dist.data.batch import Batch
from align_dist.methods.base import Context


def group_means(context: Context, batch: Batch, values: Tensor, groups: Tensor, inverse: Tensor, count: int) -> Tensor:
    """Each group's mean over the global batch, (count,); 0 for a group without an image. Collective.

    values: (B,). groups: (B,) int64 in [0, count), such as `batch.domains`. inverse: (B,), 1 over the number of images
    of the same group in the global batch (`data.share.inverse_counts`). Gradients flow to every rank's images. The
    batch must be whole, so the method sets `takes_whole_batches`.
    """
    assert batch.whole, "means over the global batch need a rank's whole batch"
    sums = values.new_zeros(count).index_add(0, groups, values * inverse)
    return context.sum_over_ranks(sums) if batch.ranks > 1 else sums
