from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from refusals import raises

from align_dist.config import AugmentationConfig
from align_dist.data.batch import Batch
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.beton import prepare_beton
from align_dist.data.loader import Loader
from align_dist.data.manifest import Manifest
from align_dist.data.sample_keys import Order, make_order, pack_keys, unaugmented
from align_dist.errors import DataError
from align_dist.machine import available_cores
from align_dist.normalisation import IMAGENET

SIDE, COUNT = 24, 22
TREE = {"paint": {"cat": 5, "dog": 6}, "photo": {"cat": 7, "dog": 4}}
PATIENCE = 20.0
MEAN, STD = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
GEOMETRY_ONLY = AugmentationConfig(jitter=(0.0, 0.0, 0.0, 0.0), greyscale=0.0)


def paint(index: int, grey: bool) -> NDArray[np.uint8]:
    """A picture of its own size and texture, darker on its left than on its right."""
    rng = np.random.default_rng(index)
    height, width = 34 + index // 2, 46 - index // 2
    texture = cv2.resize(rng.uniform(0, 90, (5, 7, 3)).astype(np.float32), (width, height))
    picture = texture + np.linspace(10, 150, width)[None, :, None]
    if grey:
        picture = picture.mean(2, keepdims=True).repeat(3, 2)
    return picture.astype(np.uint8)


def make_benchmark(root: Path, grey: bool) -> None:
    """Pictures under `images`, and their luminance under `masks`: a mask is then what its picture shows."""
    places = [(domain, label) for domain, labels in TREE.items() for label, n in labels.items() for _ in range(n)]
    for index, (domain, label) in enumerate(places):
        picture = Image.fromarray(paint(index, grey))
        for kind, shown in (("images", picture), ("masks", picture.convert("L"))):
            folder = root / kind / domain / label
            folder.mkdir(parents=True, exist_ok=True)
            shown.save(folder / f"{index:02d}.png")


class Files:
    """A beton of coloured JPEGs and one of grey raw pixels."""

    def __init__(self, folder: Path) -> None:
        self.manifests: dict[str, Manifest] = {}
        for name, grey, mode in (("colour", False, "jpg"), ("grey", True, "raw")):
            make_benchmark(folder / name, grey)
            catalogue = read_benchmark("folders", folder / name / "images", folder / name / "masks")
            settings: Any = {"max_side": 64, "mode": mode, "quality": 95, "workers": 1}
            self.manifests[name] = prepare_beton(catalogue, folder / f"{name}.beton", **settings)
        self.colour, self.grey = folder / "colour.beton", folder / "grey.beton"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("loader"))


@pytest.fixture(scope="module")
def one(files: Files) -> Loader:
    return Loader(files.colour, SIDE, 0, AugmentationConfig(), masks=True, workers=1)


@pytest.fixture(scope="module")
def geometric(files: Files) -> Loader:
    return Loader(files.grey, SIDE, 1, GEOMETRY_ONLY, masks=True, workers=1)


@pytest.fixture(scope="module")
def order() -> Order:
    return make_order((np.arange(11), np.arange(11, COUNT)), 6, seed=0)


def pixels(batch: Batch) -> torch.Tensor:
    """Levels in [0, 255], (B, 3, H, W)."""
    return (batch.images * STD + MEAN) * 255


def by_draw(batches: list[Batch]) -> dict[int, tuple[torch.Tensor, ...]]:
    entries = {}
    for batch in batches:
        assert batch.masks is not None
        rows = zip(batch.images, batch.masks, batch.labels, batch.domains, batch.samples, strict=True)
        entries |= dict(zip(batch.sample_keys.tolist(), rows, strict=True))
    return entries


def assert_same(first: dict[int, tuple[torch.Tensor, ...]], second: dict[int, tuple[torch.Tensor, ...]]) -> None:
    assert first.keys() == second.keys()
    for draw, row in first.items():
        assert all(torch.equal(a, b) for a, b in zip(row, second[draw], strict=True))


def in_time(work: Callable[[], object]) -> object:
    """What `work` returns or raises; fails if it takes longer than any sound pass over 22 pictures."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert results, f"hangs: nothing after {PATIENCE} s"
    return results[0]


def test_a_batch_says_what_it_holds(one: Loader, order: Order, files: Files) -> None:
    manifest = files.manifests["colour"]
    for step, batch in enumerate(one.batches(order.batch, 4)):
        assert batch.images.shape == (6, 3, SIDE, SIDE) and batch.images.dtype == torch.float32
        assert batch.masks is not None and batch.masks.shape == (6, SIDE, SIDE)
        assert np.array_equal(batch.sample_keys, order.batch(step))
        assert batch.samples.tolist() == (batch.sample_keys & np.uint64(2**32 - 1)).tolist()
        assert batch.labels.tolist() == [manifest.labels[i] for i in batch.samples]
        assert batch.domains.tolist() == [manifest.domain_indices[i] for i in batch.samples]


def test_one_order_of_draws_always_gives_the_same_batches(one: Loader, order: Order) -> None:
    assert_same(by_draw(list(one.batches(order.batch, 9))), by_draw(list(one.batches(order.batch, 9))))


@pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
def test_two_workers_give_the_bytes_of_one(one: Loader, files: Files, order: Order) -> None:
    two = Loader(files.colour, SIDE, 0, AugmentationConfig(), masks=True, workers=2)
    assert_same(by_draw(list(one.batches(order.batch, 12))), by_draw(list(two.batches(order.batch, 12))))


def test_a_draw_gives_its_picture_in_any_company(one: Loader, order: Order) -> None:
    sample_keys = np.concatenate([order.batch(step) for step in range(12)])
    together = by_draw(list(one.batches(order.batch, 12)))
    shuffled = np.random.default_rng(0).permutation(sample_keys)
    assert_same(together, by_draw(list(one.batches_of(shuffled, 7))))
    assert_same(together, by_draw([*one.batches_of(sample_keys[::2], 5), *one.batches_of(sample_keys[1::2], 36)]))


def test_resuming_in_the_middle_gives_the_rest(one: Loader, order: Order) -> None:
    whole = list(one.batches(order.batch, 8))
    rest = list(one.batches(lambda i: order.batch(5 + i), 3))
    assert_same(by_draw(whole[5:]), by_draw(rest))


def resized(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """By Pillow, as torchvision does it."""
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def test_pass_zero_is_the_whole_picture_resized(geometric: Loader, files: Files) -> None:
    """Pillow's antialiased bilinear interpolation, on the picture as it was painted."""
    for batch in geometric.batches_of(unaugmented(np.arange(COUNT)), 8):
        for sample, shown in zip(batch.samples.tolist(), pixels(batch), strict=True):
            expected = resized(paint(sample, grey=True))
            assert np.abs(shown.permute(1, 2, 0).numpy() - expected).max() < 1.01


def test_jpegs_are_decoded_with_their_channels_in_order(one: Loader) -> None:
    for batch in one.batches_of(unaugmented(np.arange(COUNT)), COUNT):
        for sample, shown in zip(batch.samples.tolist(), pixels(batch), strict=True):
            expected = resized(paint(sample, grey=False))
            assert np.abs(shown.permute(1, 2, 0).numpy() - expected).mean() < 4


@pytest.mark.parametrize("side", [8, 16])
def test_a_jpeg_much_larger_than_the_output_is_decoded_smaller_and_looks_the_same(files: Files, side: int) -> None:
    """A quarter and a half of the picture: the crops of pass 0 and of later passes are where they were."""
    small = Loader(files.colour, side, 0, GEOMETRY_ONLY, masks=True, workers=1)
    for batch in small.batches_of(np.concatenate([pack_keys(np.arange(COUNT), number) for number in (0, 1, 2)]), COUNT):
        assert batch.masks is not None
        grey = (pixels(batch) * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
        assert (grey - 255 * batch.masks).abs().mean() < 3


def test_a_damaged_picture_is_an_error_and_not_another_ones_pixels(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "damaged.beton"
    content = bytearray(files.colour.read_bytes())
    start = content.index(b"\xff\xd8\xff")
    content[start : start + 400] = bytes(400)
    path.write_bytes(content)
    loader = Loader(path, SIDE, 0, AugmentationConfig(), workers=1)
    error = in_time(lambda: list(loader.batches_of(unaugmented(np.arange(COUNT)), 8)))
    assert isinstance(error, DataError) and str(path) in str(error)


def test_evaluation_sees_every_image_once_and_a_short_last_batch(one: Loader) -> None:
    batches = list(one.batches_of(unaugmented(np.arange(COUNT)[::-1]), 5))
    assert [len(batch.images) for batch in batches] == [5, 5, 5, 5, 2]
    assert torch.cat([batch.samples for batch in batches]).tolist() == list(range(COUNT))[::-1]
    assert list(one.batches_of(unaugmented(np.arange(0)), 5)) == []


def test_masks_move_with_their_pictures(geometric: Loader) -> None:
    sample_keys = np.concatenate([pack_keys(np.arange(COUNT), number) for number in (1, 2, 3)])
    plain = by_draw(list(geometric.batches_of(unaugmented(np.arange(COUNT)), 11)))
    moved = 0
    for batch in geometric.batches_of(sample_keys, 11):
        assert batch.masks is not None
        assert torch.allclose(pixels(batch), 255 * batch.masks[:, None].expand(-1, 3, -1, -1), atol=1e-3)
        moved += sum(
            not torch.equal(mask, plain[sample][1])
            for mask, sample in zip(batch.masks, batch.samples.tolist(), strict=True)
        )
    assert moved > 0.95 * len(sample_keys)


def test_masks_for_evaluation_alone_are_those_of_pass_zero_and_else_zeros(files: Files, geometric: Loader) -> None:
    settings: Any = {"masks": True, "masks_in_training": False, "workers": 1}
    sample_keys = pack_keys(np.arange(COUNT), np.arange(COUNT) % 2)
    (batch,) = Loader(files.grey, SIDE, 1, GEOMETRY_ONLY, **settings).batches_of(sample_keys, COUNT)
    (plain,) = geometric.batches_of(unaugmented(np.arange(COUNT)), COUNT)
    assert batch.masks is not None and plain.masks is not None
    assert torch.equal(batch.masks[::2], plain.masks[::2])
    assert not batch.masks[1::2].any()


def test_colours_leave_masks_alone_and_do_change_pictures(one: Loader) -> None:
    """The coloured picture's luminance follows its mask closely only where no colour was changed."""
    sample_keys = pack_keys(np.arange(COUNT), 1)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    differences, correlations = [], []
    for batch in one.batches_of(sample_keys, COUNT):
        assert batch.masks is not None
        for grey, mask in zip((pixels(batch) * weights).sum(1), 255 * batch.masks, strict=True):
            differences.append(float((grey - mask).abs().mean()))
            correlations.append(float(torch.corrcoef(torch.stack([grey.flatten(), mask.flatten()]))[0, 1]))
    assert min(correlations) > 0.9  # the geometry is the same
    assert np.median(differences) > 5  # the colours are not


def test_half_of_the_pictures_are_flipped_and_a_tenth_is_grey(one: Loader) -> None:
    """1,320 draws: the standard deviations of the shares are 0.014 and 0.008."""
    sample_keys = np.concatenate([pack_keys(np.arange(COUNT), number) for number in range(1, 61)])
    flipped, grey = [], []
    for batch in one.batches_of(sample_keys, 120):
        assert batch.masks is not None
        flipped += (batch.masks[..., : SIDE // 2].mean((1, 2)) > batch.masks[..., SIDE // 2 :].mean((1, 2))).tolist()
        levels = pixels(batch)
        grey += ((levels.amax(1) - levels.amin(1)).amax((1, 2)) < 0.5).tolist()
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.05)
    assert np.mean(grey) == pytest.approx(0.1, abs=0.03)


def test_passes_and_seeds_give_other_pixels_of_the_same_picture(geometric: Loader, files: Files) -> None:
    other = Loader(files.grey, SIDE, 2, GEOMETRY_ONLY, masks=True, workers=1)
    sample_keys = np.concatenate([pack_keys(np.arange(COUNT), number) for number in (0, 1, 2)])
    first, second = (
        by_draw(list(geometric.batches_of(sample_keys, 11))),
        by_draw(list(other.batches_of(sample_keys, 11))),
    )
    for sample in range(COUNT):
        pictures = [first[sample + (number << 32)][0] for number in (0, 1, 2)]
        pictures += [second[sample + (number << 32)][0] for number in (1, 2)]
        assert torch.equal(first[sample][0], second[sample][0])  # pass 0 has no randomness
        same = sum(torch.equal(pictures[i], pictures[j]) for i in range(5) for j in range(i))
        assert same <= 1


@pytest.mark.parametrize("unread", range(8))
def test_leaving_early_ends_at_once_and_leaves_no_thread(one: Loader, order: Order, unread: int) -> None:
    before = set(threading.enumerate())

    def leave() -> bool:
        batches = one.batches(order.batch, 2 + unread)
        read = [next(batches), next(batches)]
        batches.close()  # type: ignore[attr-defined]
        return len(read) == 2

    assert in_time(leave) is True
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= before


def test_a_finished_pass_leaves_no_thread(one: Loader, order: Order) -> None:
    before = set(threading.enumerate())
    assert len(list(one.batches(order.batch, 9))) == 9
    assert set(threading.enumerate()) <= before


@pytest.fixture
def torch_threads() -> Iterator[int]:
    """Another number of threads than FFCV would set."""
    count = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(count)


def test_torchs_threads_are_left_alone(one: Loader, files: Files, order: Order, torch_threads: int) -> None:
    assert [torch.get_num_threads() for _ in one.batches(order.batch, 6)] == [torch_threads] * 6
    assert torch.get_num_threads() == torch_threads
    Loader(files.grey, SIDE, 0, GEOMETRY_ONLY, workers=1)
    assert torch.get_num_threads() == torch_threads


def test_a_beton_without_a_sound_header_is_one_line(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "damaged.beton"
    for start, stop in ((0, 64), (64, 2000)):
        shutil.copy(files.grey, path)
        with path.open("r+b") as stream:
            stream.seek(start)
            stream.write(b"\xff" * (stop - start))
        with raises(DataError, path):
            Loader(path, SIDE, 0, GEOMETRY_ONLY, workers=1)


def test_a_beton_truncated_after_opening_is_an_error_and_no_hang(files: Files, tmp_path: Path, order: Order) -> None:
    path = tmp_path / "truncated.beton"
    shutil.copy(files.grey, path)
    loader = Loader(path, SIDE, 0, GEOMETRY_ONLY, workers=1)
    with path.open("r+b") as stream:
        stream.truncate(4096)
    error = in_time(lambda: list(loader.batches(order.batch, 9)))
    assert isinstance(error, DataError)
    assert "truncated.beton" in str(error) and "data verify" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("workers", [available_cores() + 1, 1000])
def test_more_workers_than_cores_are_no_traceback(files: Files, workers: int) -> None:
    """A config written for a larger machine: as many workers as there are cores do."""
    loader = Loader(files.grey, SIDE, 1, GEOMETRY_ONLY, workers=workers)
    assert loader.labels.tolist() == list(files.manifests["grey"].labels)


def test_numbas_own_types_are_left_as_they_were(one: Loader) -> None:
    """Functions that were compiled for a row of bytes are found by this type."""
    assert len(next(one.batches_of(unaugmented(np.arange(2)), 2)).images) == 2
    assert numba.uint8[::1].mutable
