"""Which pictures are copies, near-copies or frames of one burst, so that no split cuts through them."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_SIDE = 16
# On PACS every pair within 24 bits that we looked at was a copy, a recoloured copy or a watermarked one.
MAX_DISTANCE = 24
# Line drawings on white set few bits, and upright guitars then differ in two or three: at 6 bits, 166
# PACS sketches would be one chain. Below this many set (or unset) bits only equal bytes count.
INFORMATIVE_BITS = 64
_CHUNK = 256


def content_hash(data: bytes) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """256-bit difference hash (dHash) of an (H, W, 3) image: (4,) words.

    The picture in grey is averaged down to 16 rows of 17; each bit says whether a pixel is brighter
    than its left neighbour. Source: N. Krawetz, "Kind of like that", 2013.
    """
    grey = Image.fromarray(image).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).view("<u8").astype(np.uint64)


def near_pairs(hashes: NDArray[np.uint64], max_distance: int) -> Iterator[tuple[int, int]]:
    """Pairs i < j of informative hashes (N, 4) within `max_distance` bits of each other, in [0, 256]."""
    set_bits = np.bitwise_count(hashes).sum(axis=1, dtype=np.int64)
    informative = np.flatnonzero(np.minimum(set_bits, 64 * hashes.shape[1] - set_bits) >= INFORMATIVE_BITS)
    words = np.ascontiguousarray(hashes[informative].T)
    for start in range(0, len(informative), _CHUNK):
        rows = words[:, start : start + _CHUNK, None]
        columns = words[:, None, start:]
        distance = np.bitwise_count(rows[0] ^ columns[0]).astype(np.uint16)
        for word in range(1, len(words)):
            distance += np.bitwise_count(rows[word] ^ columns[word])
        left, right = np.nonzero(distance <= max_distance)
        upper = left < right
        for i, j in zip(left[upper] + start, right[upper] + start, strict=True):
            yield int(informative[i]), int(informative[j])


def duplicate_groups(
    digests: Sequence[str],
    hashes: NDArray[np.uint64],
    sequences: Sequence[str | None],
    max_distance: int = MAX_DISTANCE,
) -> NDArray[np.int64]:
    """Group of each of N pictures: the smallest index it is connected to, (N,).

    Connected: equal digests, equal sequences (None is none), or difference hashes (N, 4) within
    `max_distance` bits. Call it per domain: a domain's split must not depend on the other domains.
    """
    parents = list(range(len(digests)))

    def find(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    def join(first: int, second: int) -> None:
        low, high = sorted((find(first), find(second)))
        parents[high] = low

    seen: dict[Hashable, int] = {}
    for index, (digest, sequence) in enumerate(zip(digests, sequences, strict=True)):
        join(index, seen.setdefault(("digest", digest), index))
        if sequence is not None:
            join(index, seen.setdefault(("sequence", sequence), index))
    for first, second in near_pairs(hashes, max_distance):
        join(first, second)
    return np.fromiter((find(index) for index in range(len(parents))), dtype=np.int64, count=len(parents))
