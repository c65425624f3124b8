"""Sample keys: a sample id and the number of a pass over its stream, packed in one integer.

A sample key determines every random decision about the image, so batches are pure functions of (seed, sample keys):
the same for any number of workers, ranks or resumes. Pass 0 is the unaugmented image; training passes count from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PASS_SHIFT = 32
SAMPLE_MASK = (1 << PASS_SHIFT) - 1

SampleKeys = NDArray[np.uint64]


def pack_keys(samples: NDArray[np.int64], passes: NDArray[np.int64] | int) -> SampleKeys:
    """Pack sample ids in [0, 2^32) and passes in [0, 2^31) into sample keys of the same shape."""
    pass_bits = np.broadcast_to(np.asarray(passes, np.uint64) << np.uint64(PASS_SHIFT), samples.shape)
    packed: SampleKeys = samples.astype(np.uint64) | pass_bits
    return packed


def sample_ids(sample_keys: SampleKeys) -> NDArray[np.int64]:
    """The sample ids of sample keys."""
    samples: NDArray[np.int64] = (sample_keys & np.uint64(SAMPLE_MASK)).astype(np.int64)
    return samples


def second_view_keys(sample_keys: SampleKeys) -> SampleKeys:
    """Sample keys of a second, differently augmented view of each image, a pure function of the first keys.

    The pass numbers lie above all that training reaches. `data.views` has the geometry between the two views.
    """
    views: SampleKeys = sample_keys | np.uint64(1 << (PASS_SHIFT + 30))
    return views


def unaugmented(samples: NDArray[np.int64]) -> SampleKeys:
    """Sample keys of the unaugmented images (pass 0), in the given order."""
    return pack_keys(samples, 0)


def permutation(samples: NDArray[np.int64], seed: int, stream: int, pass_number: int) -> NDArray[np.int64]:
    """The order of one pass over a stream of samples, a pure function of the arguments."""
    return np.random.default_rng([seed, stream, pass_number]).permutation(samples)


@dataclass(frozen=True)
class Order:
    """The infinite training order: step t takes `counts[k]` samples from stream k. Each stream passes over its samples
    without replacement, pass after pass.

    One stream is plain training; one stream per domain gives every domain the same share of each batch, as in
    DomainBed, one per group every group. A batch has its streams one after another or, with `is_mixed`, in random
    order: a group is a class on one kind of background, so images at a fixed distance would always be of the same two
    groups, while each domain has every class. `permutations` caches the last permutation of each stream, so that an
    epoch permutes once and not at every step; results do not depend on the cache.
    """

    streams: tuple[NDArray[np.int64], ...]
    counts: tuple[int, ...]
    seed: int
    is_mixed: bool = False
    permutations: dict[int, tuple[int, NDArray[np.int64]]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def batch_size(self) -> int:
        """Images in a global batch."""
        return sum(self.counts)

    @property
    def steps_per_epoch(self) -> float:
        """Number of samples over the batch size; not an integer in general."""
        return sum(map(len, self.streams)) / self.batch_size

    def batch(self, step: int) -> SampleKeys:
        """The global batch of a step, (batch_size,), in constant time; a new pass permutes its samples once."""
        keys = np.concatenate([self._take(k, step) for k in range(len(self.streams))])
        return np.random.default_rng([self.seed, len(self.streams), step]).permutation(keys) if self.is_mixed else keys

    def _take(self, stream: int, step: int) -> SampleKeys:
        stream_samples, count = self.streams[stream], self.counts[stream]
        positions = np.arange(step * count, (step + 1) * count)
        passes = positions // len(stream_samples)
        samples = np.empty(count, np.int64)
        for number in np.unique(passes):
            in_pass = passes == number
            samples[in_pass] = self._permuted(stream, int(number))[positions[in_pass] % len(stream_samples)]
        return pack_keys(samples, passes + 1)

    def _permuted(self, stream: int, pass_number: int) -> NDArray[np.int64]:
        number, order = self.permutations.get(stream, (-1, self.streams[stream]))
        if number != pass_number:
            order = permutation(self.streams[stream], self.seed, stream, pass_number)
            self.permutations[stream] = pass_number, order
        return order


def make_order(streams: tuple[NDArray[np.int64], ...], batch_size: int, seed: int, is_mixed: bool = False) -> Order:
    """The order over streams of training samples: equal parts of each batch from every stream, with the remainder from
    the first streams.
    """
    share, rest = divmod(batch_size, len(streams))
    return Order(streams, tuple(share + (k < rest) for k in range(len(streams))), seed, is_mixed)
