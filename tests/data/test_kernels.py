from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from align_dist.data import augmentation
from align_dist.data import kernels as ours
from align_dist.data.transfer import make_normaliser

Pixels = NDArray[np.uint8]
SEED = np.uint64(3)
# The statistics below are computed from fixed seeds: a sound generator passes once and for all.
UNLIKELY = 1e-3


def random_image(seed: int, height: int = 13, width: int = 17) -> Pixels:
    """Random pixels (3, H, W) with some flat grey, black, white and saturated ones."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[0, :5] = [[0, 0, 0], [255, 255, 255], [128, 128, 128], [255, 0, 0], [0, 0, 255]]
    return planes(image)


def planes(image: Pixels) -> Pixels:
    """(H, W, 3) as (3, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def differences(image: Pixels, expected: torch.Tensor) -> NDArray[np.int64]:
    return np.abs(image.astype(np.int64) - expected.numpy())


def as_tensor(image: Pixels) -> torch.Tensor:
    return torch.from_numpy(image.copy())


def resized(picture: Pixels, size: int, box: tuple[float, float, float, float], mirrored: bool = False) -> Pixels:
    """`box` is (top, left, height, width)."""
    pixels = np.empty((3, size, size), np.uint8)
    ours.resize_box(picture, *map(float, box), mirrored, pixels)
    return pixels


@settings(max_examples=200)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    box=st.tuples(*[st.floats(0.0, 1.0)] * 4),
    size=st.integers(1, 40),
    mirrored=st.booleans(),
)
def test_a_resized_box_is_pillows_antialiased_bilinear_one(
    shape: tuple[int, int], box: tuple[float, float, float, float], size: int, mirrored: bool
) -> None:
    """Boxes that begin and end within pixels, enlarged or reduced, of pictures down to one pixel.

    Pillow rounds after each of its two passes, here once: one level of difference.
    """
    picture = np.random.default_rng(shape).integers(0, 256, (*shape, 3), dtype=np.uint8)
    top, left = box[0] * (shape[0] - 1), box[1] * (shape[1] - 1)
    height, width = 1 + box[2] * (shape[0] - top - 1), 1 + box[3] * (shape[1] - left - 1)
    edges = (left, top, min(left + width, shape[1]), min(top + height, shape[0]))
    expected = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=edges)
    pixels = np.asarray(expected)[:, ::-1] if mirrored else np.asarray(expected)
    result = resized(picture, size, (top, left, height, width), mirrored)
    assert np.abs(result.astype(int) - planes(pixels)).max() <= 1


def test_a_box_of_the_outputs_size_is_copied() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(resized(picture, 12, (3, 5, 12, 12)), planes(picture[3:15, 5:17]))
    assert np.array_equal(resized(picture, 12, (3, 5, 12, 12), mirrored=True), planes(picture[3:15, 16:4:-1]))


def test_one_plane_is_the_first_channel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    one = np.empty((1, 8, 8), np.uint8)
    ours.resize_box(picture, 0.0, 0.0, 20.0, 30.0, False, one)
    assert np.array_equal(one[0], resized(picture, 8, (0, 0, 20, 30))[0])


@given(box=st.integers(1, 5000), size=st.integers(1, 500))
def test_a_reduced_jpeg_is_no_smaller_than_needed_and_not_twice_as_large(box: int, size: int) -> None:
    part = ours.reduction(box, size)
    assert part in (1, 2, 4, 8)
    assert part == 1 or box / part >= size
    assert part == 8 or box / part < 2 * size


@given(seed=st.integers(0, 1000), kind=st.integers(0, 2), factor=st.floats(0.0, 2.0))
def test_blending_is_torchvisions_brightness_contrast_and_saturation(seed: int, kind: int, factor: float) -> None:
    from torchvision.transforms.v2 import functional

    adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)[kind]
    image = random_image(seed)
    expected = adjust(as_tensor(image), factor)
    ours.blend(image, kind, factor)
    assert differences(image, expected).max() <= 1


def test_saturation_zero_is_torchvisions_greyscale() -> None:
    from torchvision.transforms.v2 import functional

    image = random_image(1)
    expected = functional.rgb_to_grayscale(as_tensor(image), num_output_channels=3)
    ours.blend(image, 2, 0.0)
    assert differences(image, expected).max() <= 1
    assert (image == image[:1]).all()


def test_blending_by_hand() -> None:
    pixels = planes(np.array([[[100, 50, 200], [10, 250, 0]]], np.uint8))
    brighter, flatter, duller = pixels.copy(), pixels.copy(), pixels.copy()
    ours.blend(brighter, 0, 1.5)
    assert brighter.transpose(1, 2, 0).tolist() == [[[150, 75, 255], [15, 255, 0]]]
    # Luma: 0.2989 100 + 0.587 50 + 0.114 200 = 82.04 and 2.989 + 146.75 = 149.739; the mean of 82 and 149 is 115.5.
    ours.blend(flatter, 1, 0.5)
    assert flatter.transpose(1, 2, 0).tolist() == [[[107, 82, 157], [62, 182, 57]]]
    ours.blend(duller, 2, 0.5)
    assert duller.transpose(1, 2, 0).tolist() == [[[91, 66, 141], [79, 199, 74]]]


@given(seed=st.integers(0, 1000), shift=st.floats(-0.5, 0.5))
def test_shifting_hue_is_torchvisions(seed: int, shift: float) -> None:
    from torchvision.transforms.v2 import functional

    image = random_image(seed)
    expected = functional.adjust_hue(as_tensor(image), shift)
    ours.shift_hue(image, shift)
    assert differences(image, expected).max() <= 1


def test_a_third_of_the_circle_turns_red_to_green_to_blue() -> None:
    image = planes(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]]], np.uint8))
    ours.shift_hue(image, 1 / 3)
    assert image.transpose(1, 2, 0).tolist() == [[[0, 255, 0], [0, 0, 255], [255, 0, 0], [77, 77, 77]]]


def test_jitter_without_strength_changes_nothing() -> None:
    image = random_image(2)
    original = image.copy()
    for draw in range(50):
        ours.jitter(image, np.zeros(4), SEED, np.uint64(draw))
    assert np.array_equal(image, original)


@pytest.mark.parametrize(
    ("kind", "strength"), [(0, 0.3), (1, 0.5), (2, 0.4), (3, 0.3)], ids=["brightness", "contrast", "saturation", "hue"]
)
def test_each_strength_is_the_range_of_its_own_operation(kind: int, strength: float) -> None:
    """Jitter of one operation equals that operation at an amount uniform in [-strength, strength]."""
    amounts = np.linspace(-strength, strength, 401)
    image = random_image(3, 4, 5)
    candidates = []
    for amount in amounts:
        changed = image.copy()
        _operation(kind)(changed, amount)
        candidates.append(changed.astype(int))
    strengths = np.zeros(4)
    strengths[kind] = strength
    nearest = []
    for draw in range(1500):
        jittered = image.copy()
        ours.jitter(jittered, strengths, SEED, np.uint64(draw))
        distances = np.abs(np.array(candidates) - jittered).reshape(len(amounts), -1).max(1)
        assert distances.min() <= 2
        nearest.append(amounts[np.argmin(distances)])
    assert stats.kstest(np.array(nearest) / strength / 2 + 0.5, "uniform").pvalue > UNLIKELY


def _operation(kind: int) -> Callable[[Pixels, float], None]:
    if kind == 3:
        return lambda image, amount: ours.shift_hue(image, amount)
    return lambda image, amount: ours.blend(image, kind, 1.0 + amount)


def test_every_order_of_operations_is_equally_likely() -> None:
    """The order of a draw is the one, of all 24, that reproduces the picture; by chi-square over 2,400 draws."""
    strength, tally = np.array([0.4, 0.4, 0.4, 0.3]), Counter[tuple[int, ...]]()
    image = random_image(4, 6, 6)
    for draw in map(np.uint64, range(2400)):
        jittered = image.copy()
        ours.jitter(jittered, strength, SEED, draw)
        amounts = [amount_of(kind, strength[kind], draw) for kind in range(4)]
        matching = [order for order in itertools.permutations(range(4)) if _gives(image, order, amounts, jittered)]
        assert matching, f"no order of the four operations gives draw {draw}"
        if len(matching) == 1:
            tally[matching[0]] += 1
    assert sum(tally.values()) > 2000
    counts = [tally[order] for order in itertools.permutations(range(4))]
    assert stats.chisquare(counts).pvalue > UNLIKELY


def amount_of(kind: int, strength: float, draw: np.uint64) -> float:
    """What jitter draws for one operation."""
    return (2 * augmentation.uniform(SEED, draw, augmentation.JITTER + 8 + kind) - 1) * strength


def _gives(image: Pixels, order: tuple[int, ...], amounts: list[float], expected: Pixels) -> bool:
    changed = image.copy()
    for kind in order:
        _operation(kind)(changed, amounts[kind])
    return np.array_equal(changed, expected)


def test_jitter_is_distributed_like_torchvisions() -> None:
    from torchvision.transforms import v2

    strength, count = (0.3, 0.3, 0.3, 0.3), 2500
    image = random_image(5, 6, 6)
    theirs, transform = [], v2.ColorJitter(*strength)
    torch.manual_seed(0)
    for _ in range(count):
        theirs.append(transform(as_tensor(image)).numpy())
    mine = []
    for draw in range(count):
        jittered = image.copy()
        ours.jitter(jittered, np.array(strength), SEED, np.uint64(draw))
        mine.append(jittered)
    for measure in (_mean, _spread, _redness):
        assert stats.ks_2samp(measure(np.array(mine)), measure(np.array(theirs))).pvalue > UNLIKELY


def _mean(images: Pixels) -> NDArray[np.float64]:
    return images.mean((1, 2, 3))


def _spread(images: Pixels) -> NDArray[np.float64]:
    return images.std((1, 2, 3))


def _redness(images: Pixels) -> NDArray[np.float64]:
    """How red a pixel is that was red."""
    return images[:, 0, 0, 3].astype(float) - images[:, 2, 0, 3]


def test_jitter_is_torchvisions_operations_in_its_order() -> None:
    """A photograph-like picture, all four operations: no more than a grey level on average."""
    from torchvision.transforms.v2 import functional

    adjust = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = planes(np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC)))
    strength = np.full(4, 0.3)
    for draw in map(np.uint64, range(60)):
        jittered = smooth.copy()
        ours.jitter(jittered, strength, SEED, draw)
        amounts = [amount_of(kind, 0.3, draw) for kind in range(4)]
        means = []
        for order in itertools.permutations(range(4)):
            expected = as_tensor(smooth)
            for kind in order:
                expected = adjust[kind](expected, amounts[kind] if kind == 3 else 1 + amounts[kind])
            means.append(differences(jittered, expected).mean())
        assert min(means) < 1


def test_normalising_is_torchs_own_to_the_bit() -> None:
    pixels = torch.randint(0, 256, (3, 3, 7, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    result = make_normaliser(torch.device("cpu"), mean, deviation)(pixels)
    wide = [values.view(1, 3, 1, 1) for values in (1 / (255 * deviation), mean / deviation)]
    assert torch.equal(result, pixels.float() * wide[0] - wide[1])
    torch.testing.assert_close(result, (pixels / 255 - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1))
