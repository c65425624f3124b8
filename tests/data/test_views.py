"""The geometry between two views, against the pixels that a loader really gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from align_dist.attribution import warp_maps
from align_dist.config import AugmentationConfig
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.beton import prepare_beton
from align_dist.data.loader import Loader
from align_dist.data.sample_keys import pack_keys, sample_ids, second_view_keys
from align_dist.data.share import Share

SIDE = 48
HALVES = AugmentationConfig(crop_scale=(0.5, 1.0), flip=0.5, jitter=(0.0, 0.0, 0.0, 0.0), greyscale=0.0)


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Smooth pictures of several sizes, whose red and green tell where a place is."""
    root = tmp_path_factory.mktemp("views")
    for index in range(12):
        height, width = 80 + 6 * index, 120 - 4 * index
        across, down = np.meshgrid(np.linspace(20, 230, width), np.linspace(20, 230, height))
        folder = root / "images" / "world" / ("left", "right")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([across, down, np.full_like(down, 10 * index)], 2).astype(np.uint8)).save(
            folder / f"{index}.png"
        )
    beton = root / "views.beton"
    prepare_beton(read_benchmark("folders", root / "images", None), beton, mode="raw", max_side=256)
    return Loader(beton, SIDE, 3, HALVES, workers=1)


def test_a_second_view_is_the_same_picture_another_way() -> None:
    sample_keys = pack_keys(np.arange(5), 7)
    second = second_view_keys(sample_keys)
    assert np.array_equal(sample_ids(second), sample_ids(sample_keys)) and not (second == sample_keys).any()
    assert np.array_equal(second_view_keys(sample_keys), second)


def test_the_first_view_carried_over_is_the_second_where_it_reaches(loader: Loader) -> None:
    sample_keys = pack_keys(np.arange(12), 1)
    second = second_view_keys(sample_keys)
    geometry = torch.from_numpy(loader.views.between(sample_keys, second))
    (batch,) = loader.shares(lambda _: Share(sample_keys, second, {"geometry": geometry}), 1)
    assert batch.second is not None
    ones = torch.ones(12, SIDE, SIDE)
    inside = warp_maps(ones, batch.values["geometry"]) > 0.999
    for channel in (0, 1):
        view = warp_maps(batch.images[:, channel], batch.values["geometry"])
        apart = (view - batch.second[:, channel]).abs()[inside]
        assert inside.float().mean() > 0.3
        # Pixels are whole levels and crops are resized: a level or two of 255, of a deviation of about a quarter.
        assert float(apart.max()) < 0.12
        assert float((batch.images[:, channel] - batch.second[:, channel]).abs()[inside].mean()) > 0.1
    mirrored = torch.tensor([float(a) < 0 for a in geometry[:, 0, 0]])
    assert mirrored.any() and not mirrored.all()


def test_a_picture_as_it_is_reaches_all_of_itself(loader: Loader) -> None:
    boxes = loader.views.boxes(pack_keys(np.arange(12), 0))
    assert np.array_equal(boxes, np.tile([0.0, 0.0, 1.0, 1.0, 0.0], (12, 1)))
    whole = loader.views.between(pack_keys(np.arange(12), 0), pack_keys(np.arange(12), 0))
    assert np.array_equal(whole, np.tile(np.float32([[1, 0, 0], [0, 1, 0]]), (12, 1, 1)))
