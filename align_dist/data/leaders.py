"""Clusters of near-equal hashes by the leader algorithm, compiled, on all cores.

Single linkage would chain slowly changing images, such as the frames of a fixed camera. Here each hash joins one
leader, so that two hashes of a cluster are at most twice the distance apart, and no list of pairs is needed.
Source: J. A. Hartigan, "Clustering Algorithms", 1975, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Indices = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., Any])
_BLOCK = 4096


def cluster_by_leaders(
    hashes: Words, initial: int, max_distance: int, workers: int = 1, report: Callable[[int], None] = lambda _: None
) -> Indices:
    """Index of the leader of each of N hashes (N, 4), for a leader its own index: (N,).

    The first `initial` hashes are leaders. Each later hash joins the nearest earlier leader within `max_distance` bits
    (the first of equally near ones), or becomes a leader. The result is the same for any number of `workers`
    (threads). report: takes the number of finished hashes.
    """
    assignments = np.arange(len(hashes))
    distances = np.full(len(hashes), max_distance + 1, np.uint64)
    # Stored by word, so that the search reads memory in order.
    leaders, names = np.empty((4, len(hashes)), np.uint64), np.arange(len(hashes))
    leaders[:, :initial] = hashes[:initial].T
    count = initial
    with ThreadPoolExecutor(workers) as pool:
        for start in range(initial, len(hashes), _BLOCK):
            stop = min(start + _BLOCK, len(hashes))
            edges = np.linspace(start, stop, 4 * workers + 1).astype(np.int64).tolist()
            tasks = [
                pool.submit(_search, hashes, first, last, leaders, names, 0, count, distances, assignments)
                for first, last in pairwise(edges)
            ]
            for task in tasks:
                task.result()
            count = _settle(hashes, start, stop, leaders, names, count, distances, assignments, max_distance)
            report(stop)
    return assignments


def _compiled(signature: str) -> Callable[[Function], Function]:
    """Compile at import, to run without the interpreter's lock."""
    return njit(signature, nogil=True)  # type: ignore[return-value]


@_compiled("uint64(uint64)")
def _set_bits(bits: np.uint64) -> np.uint64:
    """Number of set bits of a word, written so that the compiler recognises the processor's popcount."""
    bits = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    count: np.uint64 = (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return count


@_compiled("void(uint64[:, ::1], int64, int64, uint64[:, ::1], int64[::1], int64, int64, uint64[::1], int64[::1])")
def _search(
    hashes: Words,
    start: int,
    stop: int,
    leaders: Words,
    names: Indices,
    first: int,
    last: int,
    distances: Words,
    assignments: Indices,
) -> None:
    """Assign the hashes of [start, stop) to leaders of [first, last) that are nearer than `distances`."""
    for index in range(start, stop):
        nearest = distances[index]
        for leader in range(first, last):
            distance = _set_bits(hashes[index, 0] ^ leaders[0, leader])
            if distance < nearest:  # rarely true, so that three of four words are rarely read
                distance += _set_bits(hashes[index, 1] ^ leaders[1, leader])
                distance += _set_bits(hashes[index, 2] ^ leaders[2, leader])
                distance += _set_bits(hashes[index, 3] ^ leaders[3, leader])
                if distance < nearest:
                    nearest = distance
                    assignments[index] = names[leader]
        distances[index] = nearest


@_compiled("int64(uint64[:, ::1], int64, int64, uint64[:, ::1], int64[::1], int64, uint64[::1], int64[::1], int64)")
def _settle(
    hashes: Words,
    start: int,
    stop: int,
    leaders: Words,
    names: Indices,
    count: int,
    distances: Words,
    assignments: Indices,
    max_distance: int,
) -> int:
    """Assign a block's hashes to leaders within the block, or make them leaders. Returns the number of leaders."""
    first = count
    for index in range(start, stop):
        _search(hashes, index, index + 1, leaders, names, first, count, distances, assignments)
        if distances[index] > max_distance:
            leaders[:, count] = hashes[index]
            names[count] = index
            count += 1
    return count
