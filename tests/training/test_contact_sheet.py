from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from torch import Tensor

from align_dist.training.contact_sheet import (
    CAPTION_WIDTH,
    GAP,
    TITLE_HEIGHT,
    colored,
    contact_sheet,
    overlay,
    tile_size,
)


def images(count: int = 2, size: int = 28) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_colours_are_those_of_matplotlib() -> None:
    values = torch.linspace(0, 1, 256).view(1, 16, 16)
    expected = colormaps["inferno"](values[0].numpy())[..., :3]
    np.testing.assert_allclose(colored(values)[0].movedim(0, -1).numpy(), expected, atol=0.5 / 255)


def test_values_outside_the_range_and_undefined_ones_are_drawn_at_its_ends() -> None:
    drawn = colored(torch.tensor([[[-3.0, float("nan"), 7.0]]]))
    ends = colored(torch.tensor([[[0.0, 0.0, 1.0]]]))
    assert torch.equal(drawn, ends)


def test_overlay_mixes_image_and_colours() -> None:
    picture, maps = images(), torch.rand(2, 28, 28)
    torch.testing.assert_close(overlay(picture, maps, 0.0), picture)
    torch.testing.assert_close(overlay(picture, maps, 1.0), colored(maps))
    mixed = overlay(picture, torch.rand(2, 7, 7))
    assert mixed.shape == picture.shape and mixed.min() >= 0 and mixed.max() <= 1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((28, 28), (112, 112)), ((48, 48), (96, 96)), ((224, 224), (112, 112)), ((200, 300), (168, 112))],
)
def test_tiles_are_about_the_same_size_and_keep_their_proportions(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert tile_size(torch.zeros(1, 3, *shape)) == expected


def test_the_sheet_shows_each_image_at_its_place_pixel_by_pixel() -> None:
    picture, maps = images(), torch.zeros(2, 7, 7)
    maps[1] = 1.0
    sheet = np.asarray(contact_sheet({"image": picture, "mask": maps}, ["first", "second"]))
    top, left = TITLE_HEIGHT + 112 + GAP, CAPTION_WIDTH
    tile = sheet[top : top + 112, left : left + 112]
    expected = (picture[1] * 255).round().byte().movedim(0, -1).numpy().repeat(4, 0).repeat(4, 1)
    assert np.array_equal(tile, expected)
    mask = sheet[top : top + 112, left + 112 + GAP : left + 112 + GAP + 112]
    full = (np.array(colormaps["inferno"](1.0)[:3]) * 255).round()
    assert np.array_equal(np.unique(mask.reshape(-1, 3), axis=0), [full])


def test_captions_and_titles_are_drawn_and_long_ones_stay_off_the_tiles() -> None:
    blank = np.asarray(contact_sheet({"": images(1)}, [""]))
    caption = "an-extremely-long-" * 9 + " and more words" * 30
    written = np.asarray(contact_sheet({"image": images(1)}, [caption]))
    assert blank.shape == written.shape
    assert not np.array_equal(blank[:, :CAPTION_WIDTH], written[:, :CAPTION_WIDTH])
    assert not np.array_equal(blank[:TITLE_HEIGHT], written[:TITLE_HEIGHT])
    assert np.array_equal(blank[TITLE_HEIGHT:, CAPTION_WIDTH:], written[TITLE_HEIGHT:, CAPTION_WIDTH:])


def test_counts_must_match() -> None:
    with pytest.raises(ValueError):
        contact_sheet({"image": images(2)}, ["only one"])
