from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from align_dist.data.duplicates import (
    MAX_DISTANCE,
    content_hash,
    difference_hash,
    duplicate_groups,
    near_pairs,
)


def _photograph(seed: int, side: int = 120) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _hash(picture: Image.Image) -> np.ndarray:
    return difference_hash(np.asarray(picture))


def _distance(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.bitwise_count(first ^ second).sum())


def test_content_hash_is_sha256() -> None:
    assert content_hash(b"abc") == hashlib.sha256(b"abc").hexdigest()


def test_a_ramp_sets_every_bit_and_a_flat_picture_none() -> None:
    ramp = np.repeat(np.linspace(0, 255, 170, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    assert np.bitwise_count(difference_hash(ramp)).sum() == 256
    assert np.bitwise_count(difference_hash(np.ascontiguousarray(ramp[:, ::-1]))).sum() == 0


@pytest.mark.parametrize("seed", range(5))
def test_recompressed_rescaled_and_brightened_copies_are_near_and_others_far(seed: int) -> None:
    original = _photograph(seed)
    copies = [
        _jpeg(original, 60),
        original.resize((77, 77), Image.Resampling.LANCZOS),
        Image.fromarray((np.asarray(original) * 0.8).astype(np.uint8)),
    ]
    assert all(_distance(_hash(original), _hash(copy)) <= MAX_DISTANCE for copy in copies)
    assert _distance(_hash(original), _hash(_photograph(seed + 100))) > 3 * MAX_DISTANCE


def test_groups_join_copies_near_copies_and_bursts_and_nothing_else() -> None:
    pictures = [_photograph(0), _photograph(1), _jpeg(_photograph(0), 50), _photograph(2), _photograph(3)]
    pictures += [_photograph(4), _photograph(5)]
    digests = ["a", "b", "c", "d", "b", "e", "f"]
    sequences = [None, None, "burst", "burst", None, None, None]
    groups = duplicate_groups(digests, np.stack([_hash(picture) for picture in pictures]), sequences)
    # 0 ~ 2 by sight, 2 ~ 3 by burst, 1 ~ 4 by bytes
    assert groups.tolist() == [0, 1, 0, 0, 1, 5, 6]


def test_sparse_line_drawings_are_grouped_by_bytes_only() -> None:
    drawings = []
    for shift in range(2):
        canvas = np.full((160, 160, 3), 255, dtype=np.uint8)
        canvas[30:130, 79 + shift : 82 + shift] = 0
        drawings.append(difference_hash(canvas))
    assert _distance(*drawings) <= MAX_DISTANCE
    assert duplicate_groups(["a", "b"], np.stack(drawings), [None, None]).tolist() == [0, 1]
    assert duplicate_groups(["a", "a"], np.stack(drawings), [None, None]).tolist() == [0, 0]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), distance=st.integers(0, 120))
def test_groups_equal_connected_components_found_by_scipy(seed: int, count: int, distance: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, (count, 4), dtype=np.uint64)
    for index in range(count // 2):  # near-copies of earlier ones
        hashes[count - 1 - index] = hashes[index] ^ np.uint64(1 << int(rng.integers(60)))
    digests = [str(value) for value in rng.integers(0, 2 * count, count)]
    sequences = [None if value < count else str(value) for value in rng.integers(0, 3 * count, count)]
    bits = np.unpackbits(hashes.view(np.uint8), axis=1).astype(int)
    linked = (bits[:, None] != bits[None]).sum(axis=2) <= distance
    informative = np.minimum(bits.sum(axis=1), 256 - bits.sum(axis=1)) >= 64
    linked &= informative[:, None] & informative[None]
    for i in range(count):
        for j in range(count):
            burst = sequences[i] is not None and sequences[i] == sequences[j]
            linked[i, j] |= digests[i] == digests[j] or burst
    components = connected_components(coo_matrix(linked), directed=False)[1]
    expected = [int(np.flatnonzero(components == component)[0]) for component in components]
    assert duplicate_groups(digests, hashes, sequences, distance).tolist() == expected


def test_pairs_are_found_across_chunks() -> None:
    hashes = np.random.default_rng(1).integers(0, 2**63, (700, 4), dtype=np.uint64)
    hashes[690] = hashes[3]
    hashes[699] = hashes[698]
    assert list(near_pairs(hashes, 10)) == [(3, 690), (698, 699)]
