"""Clusters of near-equal hashes by the leader algorithm, compiled, on all cores.

Single linkage makes one chain of whatever changes slowly, such as the frames of a fixed camera. Here each hash
joins one leader, so that two of a cluster are at most twice the distance apart, and no list of pairs is made.
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


def follow_leaders(
    hashes: Words, given: int, max_distance: int, workers: int = 1, report: Callable[[int], None] = lambda done: None
) -> Indices:
    """The leader of each of N hashes (N, 4), by index: its own where it leads, (N,).

    The first `given` hashes lead. Each later one joins the nearest leader before it, of equally near ones the first,
    within `max_distance` bits, or leads. The same for any number of `workers` (threads); `report` takes how many
    hashes are done.
    """
    chosen = np.arange(len(hashes))
    distances = np.full(len(hashes), max_distance + 1, np.uint64)
    # By word, so that the search goes through memory in order.
    leaders, names = np.empty((4, len(hashes)), np.uint64), np.arange(len(hashes))
    leaders[:, :given] = hashes[:given].T
    count = given
    with ThreadPoolExecutor(workers) as pool:
        for start in range(given, len(hashes), _BLOCK):
            stop = min(start + _BLOCK, len(hashes))
            edges = np.linspace(start, stop, 4 * workers + 1).astype(np.int64).tolist()
            tasks = [
                pool.submit(_search, hashes, first, last, leaders, names, 0, count, distances, chosen)
                for first, last in pairwise(edges)
            ]
            for task in tasks:
                task.result()
            count = _settle(hashes, start, stop, leaders, names, count, distances, chosen, max_distance)
            report(stop)
    return chosen


def _compiled(signature: str) -> Callable[[Function], Function]:
    """Compiled at import; other threads run meanwhile."""
    return njit(signature, nogil=True)  # type: ignore[return-value]


@_compiled("uint64(uint64)")
def _set_bits(bits: np.uint64) -> np.uint64:
    """How many bits of a word are set: an idiom for which the compiler takes the processor's instruction."""
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
    chosen: Indices,
) -> None:
    """Lets hashes of [start, stop) follow leaders of [first, last) that are nearer than their `distances`."""
    for index in range(start, stop):
        nearest = distances[index]
        for leader in range(first, last):
            distance = _set_bits(hashes[index, 0] ^ leaders[0, leader])
            if distance < nearest:  # seldom true, so that three words in four are seldom read
                distance += _set_bits(hashes[index, 1] ^ leaders[1, leader])
                distance += _set_bits(hashes[index, 2] ^ leaders[2, leader])
                distance += _set_bits(hashes[index, 3] ^ leaders[3, leader])
                if distance < nearest:
                    nearest = distance
                    chosen[index] = names[leader]
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
    chosen: Indices,
    max_distance: int,
) -> int:
    """Lets a block's hashes follow the leaders of the block itself too, or lead; how many leaders there are then."""
    before = count
    for index in range(start, stop):
        _search(hashes, index, index + 1, leaders, names, before, count, distances, chosen)
        if distances[index] > max_distance:
            leaders[:, count] = hashes[index]
            names[count] = index
            count += 1
    return count
