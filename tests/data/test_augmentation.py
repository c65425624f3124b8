from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from align_dist.data import augmentation as ours

SEED = np.uint64(3)
# The statistics below are computed from fixed seeds: a sound generator passes once and for all.
UNLIKELY = 1e-3


def numbers(
    seeds: NDArray[np.uint64], sample_keys: NDArray[np.uint64], counters: NDArray[np.int64]
) -> NDArray[np.float64]:
    """`uniform` for every triple of the broadcast arguments."""
    triples = zip(*np.broadcast_arrays(seeds, sample_keys, counters), strict=True)
    return np.array([ours.uniform(seed, draw, counter) for seed, draw, counter in triples])


COUNT = 20_000
FEW = np.arange(COUNT, dtype=np.uint64)
ONE = np.full(COUNT, 5, np.uint64)
SEQUENCES: dict[str, tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]] = {
    "counters": (ONE, ONE, np.arange(COUNT)),
    "samples": (ONE, FEW, np.zeros(COUNT, np.int64)),
    "passes": (ONE, FEW << np.uint64(32), np.zeros(COUNT, np.int64)),
    "seeds": (FEW, ONE, np.zeros(COUNT, np.int64)),
}


@pytest.mark.parametrize("along", SEQUENCES)
def test_numbers_are_uniform_and_neighbours_independent(along: str) -> None:
    values = numbers(*SEQUENCES[along])
    assert values.min() >= 0 and values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > UNLIKELY
    for distance in (1, 2, 64):
        table, _, _ = np.histogram2d(values[:-distance], values[distance:], bins=8, range=[[0, 1], [0, 1]])
        assert stats.chisquare(table.ravel()).pvalue > UNLIKELY


@pytest.mark.parametrize("changed", ["seed", "draw", "pass", "counter"])
def test_changing_one_argument_gives_an_independent_number(changed: str) -> None:
    seeds, sample_keys, counters = SEQUENCES["samples"]
    other = {
        "seed": (seeds + np.uint64(1), sample_keys, counters),
        "draw": (seeds, sample_keys + np.uint64(1), counters),
        "pass": (seeds, sample_keys + np.uint64(1 << 32), counters),
        "counter": (seeds, sample_keys, counters + 1),
    }[changed]
    table, _, _ = np.histogram2d(numbers(seeds, sample_keys, counters), numbers(*other), bins=8, range=[[0, 1], [0, 1]])
    assert stats.chi2_contingency(table).pvalue > UNLIKELY


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1), st.integers(0, 200))
def test_a_number_depends_on_nothing_but_its_arguments(seed: int, draw: int, counter: int) -> None:
    first = ours.uniform(np.uint64(seed), np.uint64(draw), counter)
    ours.uniform(np.uint64(1), np.uint64(2), 3)
    assert 0 <= first < 1
    assert ours.uniform(np.uint64(seed), np.uint64(draw), counter) == first


@pytest.mark.parametrize("bit", range(0, 64, 7))
def test_mixing_flips_half_of_the_bits_when_one_is_flipped(bit: int) -> None:
    """64 bits, 500 pairs: the mean has a standard deviation of 0.18 bits."""
    values = np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)
    changed = [int(ours.mix(v)) ^ int(ours.mix(v ^ np.uint64(1 << bit))) for v in values]
    assert np.mean([difference.bit_count() for difference in changed]) == pytest.approx(32, abs=0.9)


@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    scale=st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1.0)),
    ratio=st.tuples(st.floats(0.3, 1.0), st.floats(1.0, 3.0)),
    draw=st.integers(0, 2**63 - 1),
)
def test_a_crop_lies_inside_the_picture(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], draw: int
) -> None:
    top, left, height, width = ours.crop_box(*size, np.array(scale), np.array(ratio), SEED, np.uint64(draw))
    assert height >= 1 and width >= 1 and top >= 0 and left >= 0
    assert top + height <= size[0] and left + width <= size[1]


@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    ratio=st.tuples(st.floats(0.3, 1.0), st.floats(1.0, 3.0)),
)
def test_without_a_fitting_crop_it_is_torchvisions_central_one(
    size: tuple[int, int], ratio: tuple[float, float]
) -> None:
    """Four times the area fits nowhere, so both fall back."""
    from torchvision.transforms import RandomResizedCrop

    expected = RandomResizedCrop.get_params(torch.empty(3, *size), [4.0, 4.0], list(ratio))
    assert ours.crop_box(*size, np.array([4.0, 4.0]), np.array(ratio), SEED, np.uint64(1)) == expected


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(60, 80, (0.7, 1.0)), (64, 64, (0.08, 1.0)), (150, 40, (0.08, 0.9))]
)
def test_crops_are_distributed_like_torchvisions(height: int, width: int, scale: tuple[float, float]) -> None:
    from torchvision.transforms import RandomResizedCrop

    ratio, count = (3 / 4, 4 / 3), 4000
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)])
    mine = np.array(
        [
            ours.crop_box(height, width, np.array(scale), np.array(ratio), SEED, np.uint64((1 << 32) + i))
            for i in range(count)
        ]
    )
    for name, measure in {
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
        "height": lambda box: box[:, 2],
        "width": lambda box: box[:, 3],
        "area": lambda box: box[:, 2] * box[:, 3],
        "aspect": lambda box: box[:, 3] / box[:, 2],
        "room": lambda box: (box[:, 0] + 0.5) / (height - box[:, 2] + 1),
    }.items():
        assert stats.ks_2samp(measure(mine), measure(theirs)).pvalue > UNLIKELY, name
