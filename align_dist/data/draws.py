"""Draws: which sample, on which pass over its domain, packed in one integer.

A draw names both a place in the order and every random decision about the picture, so batches are pure
functions of (seed, draw): the same for any number of workers, ranks, or resumes. Pass 0 means the picture
as it is, unaugmented; training passes count from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PASS_SHIFT = 32
SAMPLE_MASK = (1 << PASS_SHIFT) - 1

Draws = NDArray[np.uint64]


def pack(samples: NDArray[np.int64], passes: NDArray[np.int64] | int) -> Draws:
    """Sample ids in [0, 2^32) and passes in [0, 2^31) as draws of the same shape."""
    shifted = np.broadcast_to(np.asarray(passes, np.uint64) << np.uint64(PASS_SHIFT), samples.shape)
    packed: Draws = samples.astype(np.uint64) | shifted
    return packed


def sample_of(draws: Draws) -> NDArray[np.int64]:
    """The sample ids of draws."""
    samples: NDArray[np.int64] = (draws & np.uint64(SAMPLE_MASK)).astype(np.int64)
    return samples


def second_views(draws: Draws) -> Draws:
    """The same samples, augmented anew: another view of each picture, the same whenever it is asked for.

    Its pass lies beyond every one that training reaches. `data.views` has the geometry between the two.
    """
    views: Draws = draws | np.uint64(1 << (PASS_SHIFT + 30))
    return views


def unaugmented(samples: NDArray[np.int64]) -> Draws:
    """Each sample once, as it is (pass 0), in the given order."""
    return pack(samples, 0)


def permutation(samples: NDArray[np.int64], seed: int, stream: int, pass_number: int) -> NDArray[np.int64]:
    """The order of one pass over a domain: a pure function of its arguments."""
    return np.random.default_rng([seed, stream, pass_number]).permutation(samples)


@dataclass(frozen=True)
class Order:
    """The infinite training order: step t takes `counts[k]` draws from stream k, each stream passing over
    its samples without replacement, again and again.

    One stream is plain training; one stream a domain gives every domain the same share of each batch, as
    DomainBed does (paper.md section 5.3). `kept` holds the permutation that each stream used last, so that an epoch
    permutes once and not at every step; nothing but time depends on it.
    """

    streams: tuple[NDArray[np.int64], ...]
    counts: tuple[int, ...]
    seed: int
    kept: dict[int, tuple[int, NDArray[np.int64]]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def batch_size(self) -> int:
        """Images in a global batch."""
        return sum(self.counts)

    @property
    def steps_per_epoch(self) -> float:
        """Steps until as many images were drawn as there are samples; not a whole number in general."""
        return sum(map(len, self.streams)) / self.batch_size

    def batch(self, step: int) -> Draws:
        """The global batch of a step: O(1) in the step number, and in the samples while a pass lasts."""
        return np.concatenate([self._take(k, step) for k in range(len(self.streams))])

    def _take(self, stream: int, step: int) -> Draws:
        samples, count = self.streams[stream], self.counts[stream]
        places = np.arange(step * count, (step + 1) * count)
        passes = places // len(samples)
        drawn = np.empty(count, np.int64)
        for number in np.unique(passes):
            inside = passes == number
            drawn[inside] = self._permuted(stream, int(number))[places[inside] % len(samples)]
        return pack(drawn, passes + 1)

    def _permuted(self, stream: int, pass_number: int) -> NDArray[np.int64]:
        number, order = self.kept.get(stream, (-1, self.streams[stream]))
        if number != pass_number:
            order = permutation(self.streams[stream], self.seed, stream, pass_number)
            self.kept[stream] = pass_number, order
        return order


def make_order(domains: tuple[NDArray[np.int64], ...], batch_size: int, seed: int, balanced: bool) -> Order:
    """An order over the training samples of each domain.

    Balanced: equal parts of each batch from every domain, the first domains taking the remainder.
    Otherwise all domains form one stream.
    """
    if not balanced:
        return Order((np.concatenate(domains),), (batch_size,), seed)
    share, rest = divmod(batch_size, len(domains))
    return Order(domains, tuple(share + (k < rest) for k in range(len(domains))), seed)
