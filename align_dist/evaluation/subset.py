"""The images on which explanations are measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from align_dist.data.sample_keys import permutation

Ids = NDArray[np.int64]


def subset(samples: Ids, limit: int) -> Ids:
    """At most `limit` samples, the same for every run, because explanations take many forward passes per image."""
    if len(samples) <= limit:
        return samples
    return np.sort(permutation(samples, 0, 0, 0)[:limit])
