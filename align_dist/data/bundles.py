"""Bundles of samples that a split must not separate, domain by domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from align_dist.data.bursts import events_of
from align_dist.data.catalogue import Sample
from align_dist.data.duplicates import near_bundles
from align_dist.data.progress import progress
from align_dist.data.scan import ImageScan
from align_dist.machine import available_cores


def bundles_within_domains(samples: Sequence[Sample], facts: Sequence[ImageScan]) -> NDArray[np.int64]:
    """Bundle of each sample (copies, near-duplicates, one burst), named by its smallest sample id: (N,).

    No bundle spans domains. Every domain is split on its own and a target domain is tested as a whole, so joining
    copies across domains would protect nothing and make one domain's split depend on the others.
    """
    bundles = np.zeros(len(samples), dtype=np.int64)
    names = np.array([sample.domain for sample in samples])
    for domain in np.unique(names):
        with progress(f"near-duplicates in {domain}", int((names == domain).sum())) as report:
            ids = np.flatnonzero(names == domain)
            members = [facts[index] for index in ids.tolist()]
            local = near_bundles(
                [fact.digest for fact in members],
                np.stack([fact.difference for fact in members]),
                events_of((samples[index].sequence for index in ids.tolist()), [fact.capture for fact in members]),
                workers=available_cores(),
                report=report,
            )
            bundles[ids] = ids[local]
            report(len(ids))
    return bundles
