"""Which pictures are copies, near-copies or frames of one burst, so that no split cuts through them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_SIDE = 16
# On PACS every pair within 24 bits that we looked at was a copy, a recoloured copy or a watermarked one.
MAX_DISTANCE = 24
# Line drawings on white set few bits, and upright guitars then differ in two or three: at 6 bits, 166
# PACS sketches would be one chain. Below this many set (or unset) bits only equal bytes count.
INFORMATIVE_BITS = 64


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


def copy_bundles(digests: Sequence[str]) -> NDArray[np.int64]:
    """Bundle of each of N pictures: the smallest index of equal digest, (N,)."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(digest, index) for index, digest in enumerate(digests)], np.int64)


def near_bundles(
    digests: Sequence[str],
    hashes: NDArray[np.uint64],
    events: Sequence[str | None],
    max_distance: int = MAX_DISTANCE,
    workers: int = 1,
    report: Callable[[int], None] = lambda done: None,
) -> NDArray[np.int64]:
    """Bundle of each of N pictures: the smallest index in it, (N,).

    Together: equal digests, equal events (None is none), and each picture without an event with the nearest one
    before it, those with an event coming first, whose difference hash (N, 4) is within `max_distance` bits; see
    leaders.py. So events alone decide between two pictures that both have one, and no chain of look-alikes forms.
    Call it per domain: a domain's split must not depend on the other domains.
    """
    from align_dist.data.leaders import follow_leaders

    parents = np.arange(len(digests))
    copies = copy_bundles(digests)
    for index, original in enumerate(copies.tolist()):
        _join(parents, original, index)
    first: dict[str, int] = {}
    for index, event in enumerate(events):
        if event is not None:
            _join(parents, first.setdefault(event, index), index)
    in_event = np.isin(_roots(parents), _roots(parents)[[event is not None for event in events]])
    shown = np.flatnonzero(_informative(hashes) & (copies == np.arange(len(copies))))
    order = np.concatenate([shown[in_event[shown]], shown[~in_event[shown]]])
    leaders = follow_leaders(hashes[order], int(in_event[shown].sum()), max_distance, workers, report)
    for index, leader in zip(order.tolist(), order[leaders].tolist(), strict=True):
        _join(parents, index, leader)
    return _roots(parents)


def _informative(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    set_bits = np.bitwise_count(hashes).sum(axis=1, dtype=np.int64)
    informative: NDArray[np.bool_] = np.minimum(set_bits, 64 * hashes.shape[1] - set_bits) >= INFORMATIVE_BITS
    return informative


def _find(parents: NDArray[np.int64], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = int(parents[index])
    return index


def _join(parents: NDArray[np.int64], first: int, second: int) -> None:
    low, high = sorted((_find(parents, first), _find(parents, second)))
    parents[high] = low


def _roots(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array([_find(parents, index) for index in range(len(parents))], np.int64)
