from __future__ import annotations

import numpy as np
import pytest

from align_dist.data.leaders import cluster_by_leaders


def clustered(count: int) -> np.ndarray:
    """Hashes around a third as many centres, each within 20 bits of its own."""
    rng = np.random.default_rng(count)
    bits = rng.integers(0, 2, (count // 3, 256), dtype=np.uint8)[rng.integers(0, count // 3, count)]
    for row in bits:
        row[rng.choice(256, 10, replace=False)] ^= 1
    return np.packbits(bits, axis=1).view("<u8").astype(np.uint64)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_many_blocks_and_threads_choose_as_a_plain_search_does(workers: int) -> None:
    hashes = clustered(9000)
    leaders: list[int] = []
    expected = []
    for index, hashed in enumerate(hashes):
        apart = np.bitwise_count(hashes[leaders] ^ hashed).sum(axis=1)
        if len(apart) and apart.min() <= 24:
            expected.append(leaders[int(apart.argmin())])
        else:
            leaders.append(index)
            expected.append(index)
    assert 1000 < len(leaders) < 8000
    assert cluster_by_leaders(hashes, 0, 24, workers).tolist() == expected


def test_given_leaders_lead_though_they_are_alike() -> None:
    hashes = np.repeat(clustered(9)[:2], [3, 2], axis=0)
    assert cluster_by_leaders(hashes, 2, 24).tolist() == [0, 1, 0, 3, 3]
    assert cluster_by_leaders(hashes, 5, 24).tolist() == [0, 1, 2, 3, 4]


def test_progress_ends_with_all_hashes() -> None:
    numbers: list[int] = []
    cluster_by_leaders(clustered(9000), 0, 24, 2, numbers.append)
    assert numbers == sorted(numbers) and len(numbers) > 1 and numbers[-1] == 9000


def test_no_hashes_have_no_leaders() -> None:
    assert cluster_by_leaders(np.empty((0, 4), np.uint64), 0, 24).tolist() == []
