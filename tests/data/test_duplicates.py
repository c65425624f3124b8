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
    copy_bundles,
    difference_hash,
    near_bundles,
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


def test_bundles_join_copies_near_copies_and_events_and_nothing_else() -> None:
    pictures = [_photograph(0), _photograph(1), _jpeg(_photograph(0), 50), _photograph(2), _photograph(3)]
    pictures += [_photograph(4), _photograph(5)]
    digests = ["a", "b", "c", "d", "b", "e", "f"]
    events = [None, None, "burst", "burst", None, None, None]
    bundles = near_bundles(digests, np.stack([_hash(picture) for picture in pictures]), events)
    # 0 ~ 2 by sight, 2 ~ 3 by event, 1 ~ 4 by bytes
    assert bundles.tolist() == [0, 1, 0, 0, 1, 5, 6]


def test_events_decide_instead_of_looks_where_both_pictures_have_one() -> None:
    hashes = np.stack([_hash(_photograph(0))] * 4 + [_hash(_photograph(1))])
    assert near_bundles(list("abcde"), hashes, ["x", "y", "x", None, "y"]).tolist() == [0, 1, 0, 0, 1]
    # Equal bytes belong together whatever is said of them.
    assert near_bundles(list("abbde"), hashes, ["x", "y", "z", None, None]).tolist() == [0, 1, 1, 0, 4]


def test_a_look_alike_of_two_events_does_not_join_them() -> None:
    hashes = np.stack([_hash(_photograph(0))] * 3)
    assert near_bundles(list("abc"), hashes, [None, "x", "y"]).tolist() == [0, 0, 2]


def test_sparse_line_drawings_are_grouped_by_bytes_only() -> None:
    drawings = []
    for shift in range(2):
        canvas = np.full((160, 160, 3), 255, dtype=np.uint8)
        canvas[30:130, 79 + shift : 82 + shift] = 0
        drawings.append(difference_hash(canvas))
    assert _distance(*drawings) <= MAX_DISTANCE
    assert near_bundles(["a", "b"], np.stack(drawings), [None, None]).tolist() == [0, 1]
    assert near_bundles(["a", "a"], np.stack(drawings), [None, None]).tolist() == [0, 0]


def _drifting(count: int) -> np.ndarray:
    """Hashes of which each is 8 bits from the one before: what shadows do to a fixed camera's frames."""
    rng = np.random.default_rng(0)
    bits = np.zeros((count, 256), np.uint8)
    bits[0] = rng.integers(0, 2, 256)
    for index in range(1, count):
        bits[index] = bits[index - 1]
        bits[index, rng.choice(256, 8, replace=False)] ^= 1
    return np.packbits(bits, axis=1).view("<u8").astype(np.uint64)


@given(seed=st.integers(0, 2**32 - 1), distance=st.integers(0, 40))
def test_look_alikes_of_one_group_are_never_far_apart(seed: int, distance: int) -> None:
    hashes = _drifting(120)[np.random.default_rng(seed).permutation(120)]
    bundles = near_bundles([str(index) for index in range(120)], hashes, [None] * 120, distance)
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2)
    assert distances[bundles[:, None] == bundles[None]].max() <= 2 * distance
    if distance >= 8:
        assert len(np.unique(bundles)) < 120


def test_frames_that_change_slowly_are_no_chain() -> None:
    hashes = _drifting(600)
    bundles = near_bundles([str(index) for index in range(600)], hashes, [None] * 600)
    sizes = np.unique(bundles, return_counts=True)[1]
    assert np.bitwise_count(hashes[1:] ^ hashes[:-1]).sum(axis=1).max() <= MAX_DISTANCE
    assert len(sizes) > 60 and sizes.max() < 30


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), distance=st.integers(0, 120))
def test_bundles_equal_those_of_a_plain_search(seed: int, count: int, distance: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, (count, 4), dtype=np.uint64)
    for index in range(count // 2):  # near-copies of earlier ones
        hashes[count - 1 - index] = hashes[index] ^ np.uint64(1 << int(rng.integers(60)))
    digests = [f"{hashes[index].tobytes()!r}{rng.integers(2)}" for index in range(count)]
    events = [None if value < count else str(value) for value in rng.integers(0, 2 * count, count)]
    bits = np.unpackbits(hashes.view(np.uint8), axis=1).astype(int)
    informative = np.minimum(bits.sum(axis=1), 256 - bits.sum(axis=1)) >= 64
    links = np.zeros((count, count), bool)
    for i in range(count):
        for j in range(count):
            links[i, j] = digests[i] == digests[j] or (events[i] is not None and events[i] == events[j])
    hard = connected_components(coo_matrix(links), directed=False)[1]
    eventful = {int(hard[i]) for i in range(count) if events[i] is not None}
    candidates = [i for i in range(count) if informative[i] and digests.index(digests[i]) == i]
    leaders = [i for i in candidates if int(hard[i]) in eventful]
    for i in candidates:
        if int(hard[i]) not in eventful:
            apart = [int((bits[i] != bits[leader]).sum()) for leader in leaders]
            if apart and min(apart) <= distance:
                links[i, leaders[int(np.argmin(apart))]] = True
            else:
                leaders.append(i)
    components = connected_components(coo_matrix(links), directed=False)[1]
    expected = [int(np.flatnonzero(components == component)[0]) for component in components]
    assert near_bundles(digests, hashes, events, distance).tolist() == expected


def test_copies_are_grouped_by_the_first() -> None:
    assert copy_bundles(["a", "b", "a", "c", "b"]).tolist() == [0, 1, 0, 3, 1]
    assert copy_bundles([]).tolist() == []
