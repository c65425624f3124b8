"""Bundles of copies, near-duplicates and bursts, which no split may separate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_SIDE = 16
# On PACS, every inspected pair within 24 bits was a copy, a recoloured copy or a watermarked copy.
MAX_DISTANCE = 24
# Line drawings on white set few bits, so that upright guitars differ in two or three bits: at 6 bits, 166 PACS
# sketches would form one chain. Below this number of set (or unset) bits only equal bytes count.
INFORMATIVE_BITS = 64


def content_hash(data: bytes) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """256-bit difference hash (dHash) of an (H, W, 3) image: (4,) words.

    The grey image is averaged down to 16 rows of 17 pixels; each bit says whether a pixel is brighter than its left
    neighbour. Source: N. Krawetz, "Kind of like that", 2013.
    """
    grey = Image.fromarray(image).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).view("<u8").astype(np.uint64)


def copy_bundles(digests: Sequence[str]) -> NDArray[np.int64]:
    """Bundle of each of N images: the smallest index with an equal digest, (N,)."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(digest, index) for index, digest in enumerate(digests)], np.int64)


def near_bundles(
    digests: Sequence[str],
    hashes: NDArray[np.uint64],
    events: Sequence[str | None],
    max_distance: int = MAX_DISTANCE,
    workers: int = 1,
    report: Callable[[int], None] = lambda _: None,
) -> NDArray[np.int64]:
    """Bundle of each of N images: the smallest index in the bundle, (N,).

    A bundle joins equal digests, equal events (None is no event), and each image without an event with the nearest
    leader whose difference hash (N, 4) is within `max_distance` bits; images with an event lead first, see leaders.py.
    Two images that both have an event are therefore joined by events alone, and no chain of near-duplicates forms.
    For use within one domain, because a domain's split must not depend on other domains.
    """
    from align_dist.data.leaders import cluster_by_leaders

    parents = np.arange(len(digests))
    copies = copy_bundles(digests)
    for index, original in enumerate(copies.tolist()):
        _join(parents, original, index)
    first: dict[str, int] = {}
    for index, event in enumerate(events):
        if event is not None:
            _join(parents, first.setdefault(event, index), index)
    in_event = np.isin(_roots(parents), _roots(parents)[[event is not None for event in events]])
    candidates = np.flatnonzero(_informative(hashes) & (copies == np.arange(len(copies))))
    order = np.concatenate([candidates[in_event[candidates]], candidates[~in_event[candidates]]])
    leaders = cluster_by_leaders(hashes[order], int(in_event[candidates].sum()), max_distance, workers, report)
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
