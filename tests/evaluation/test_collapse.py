"""Collapse of maps, by hand and by networks whose maps are known."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from align_dist.evaluation.collapse import Agreement, agreement, collapse, commonest_cell
from align_dist.evaluation.moving import moved_maps, shift_of
from align_dist.runs.metrics import write_metrics
from align_dist.training.map_warnings import collapse_warning, staying_warning, unguided_staying

CELLS, SIDE = 6, 48


def dots(places: list[tuple[int, int]], size: int = CELLS) -> Tensor:
    """A map with a 1 in one cell, for each place."""
    maps = torch.zeros(len(places), size, size)
    for index, (row, column) in enumerate(places):
        maps[index, row, column] = 1
    return maps


def test_the_commonest_cell_by_hand() -> None:
    maps = dots([(0, 1), (2, 2), (0, 1), (1, 0)], 3)
    assert commonest_cell(maps) == 0.5
    assert commonest_cell(-3 * maps + 5) == 1  # of equal maxima the first: the corner
    constant = torch.full((2, 3, 3), 0.4)
    assert commonest_cell(torch.cat([maps, constant])) == 0.5
    assert torch.tensor(commonest_cell(constant)).isnan()


def test_agreement_by_hand() -> None:
    first = torch.tensor([[[1.0, 2.0, 3.0]], [[0.0, 0.0, 3.0]], [[5.0, 5.0, 5.0]]])
    second = torch.tensor([[[3.0, 1.0, 2.0]], [[6.0, 0.0, 0.0]], [[5.0, 5.0, 5.0]]])
    # Correlations: own -1/2 and -1/2; (1 2 3) with (6 0 0) -sqrt(3)/2, (0 0 3) with (3 1 2) 0. Constants are left out.
    found = agreement(first, second)
    assert found.own == pytest.approx(-0.5) and found.chance == pytest.approx(-(3**0.5) / 4)
    assert agreement(first * 4 - 1, second + 7) == pytest.approx(found)
    against = agreement(first, torch.zeros_like(first))
    assert against == Agreement(0.0, 0.0) and against.above_chance == 0


def test_agreement_above_chance_is_corrected_as_kappa_is() -> None:
    assert Agreement(0.8, 0.5).above_chance == pytest.approx(0.6)
    assert Agreement(1.0, 1.0).above_chance == 0


class Seen(NamedTuple):
    logits: Tensor
    cam: Tensor


class BrightSpot(nn.Module):
    """A map of where the picture is bright."""

    def forward(self, images: Tensor, explain: Tensor) -> Seen:
        cam = nn.functional.max_pool2d(images.mean(1, keepdim=True), SIDE // CELLS)[:, 0]
        return Seen(torch.zeros(len(images), 2), cam)


class FixedDot(nn.Module):
    """One map whatever the picture shows."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.map = dots([(row, column)])

    def forward(self, images: Tensor, explain: Tensor) -> Seen:
        return Seen(torch.zeros(len(images), 2), self.map.expand(len(images), -1, -1) * images.mean().exp())


def pictures_of(places: list[tuple[int, int]]) -> Tensor:
    """A bright pixel somewhere in a cell, for each place."""
    images = torch.zeros(len(places), 3, SIDE, SIDE)
    for index, (row, column) in enumerate(places):
        images[index, :, row * 8 + 3, column * 8 + 5] = 1
    return images


def measured(network: nn.Module, images: Tensor) -> dict[str, float]:
    maps = moved_maps(network, images, torch.zeros(len(images), dtype=torch.int64), None)
    return collapse(*maps, shift_of(CELLS))


PLACES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=40)


@given(row=st.integers(0, 5), column=st.integers(0, 5), places=PLACES)
def test_a_fixed_dot_is_one_cell_and_follows_nothing(row: int, column: int, places: list[tuple[int, int]]) -> None:
    found = measured(FixedDot(row, column), pictures_of(places))
    assert found["commonest_cell"] == 1 and found["map_cells"] == 36
    assert found["map_likeness"] == pytest.approx(1) and found["stays_mirror"] == pytest.approx(1)
    assert found["map_following"] == pytest.approx(0, abs=1e-6)


@given(places=PLACES)
def test_a_map_of_the_pictures_own_bright_spot_follows_it_all_the_way(places: list[tuple[int, int]]) -> None:
    # At least two places that are seen in either half and after the shift.
    places = [*places, (0, 0), (3, 2), (5, 1)]
    found = measured(BrightSpot(), pictures_of(places))
    assert found["follows_mirror"] == pytest.approx(1) and found["follows_shift"] == pytest.approx(1)
    assert found["map_following"] == pytest.approx(1)
    assert found["stays_mirror"] < 0.1 and found["stays_shift"] < 0.1
    assert found["commonest_cell"] == max(places.count(place) for place in places) / len(places)


def told(network: nn.Module, places: list[tuple[int, int]]) -> dict[str, float]:
    return {f"validation/{name}": value for name, value in measured(network, pictures_of(places)).items()}


def test_training_warns_of_maps_that_stay_where_they_are_and_of_no_others() -> None:
    everywhere = [(index // 6 % 6, index % 6) for index in range(144)]
    line = collapse_warning(told(FixedDot(1, 4), everywhere), 144)
    assert line is not None and "\n" not in line and "100%" in line and "36" in line
    assert collapse_warning(told(FixedDot(1, 4), everywhere[:72]), 72) is None
    assert collapse_warning(told(BrightSpot(), everywhere), 144) is None
    # Objects that all stand in one place: one cell, and yet the maps follow.
    in_one_place = [(2, 1)] * 100 + everywhere[:36]
    assert collapse_warning(told(BrightSpot(), in_one_place), 136) is None
    assert collapse_warning({"validation/accuracy": 0.5}, 144) is None


def test_training_warns_of_maps_that_stay_more_than_they_did_before_guidance(tmp_path: Path) -> None:
    everywhere = [(index // 6 % 6, index % 6) for index in range(72)]
    staying, moving = told(FixedDot(1, 4), everywhere), told(BrightSpot(), everywhere)
    metrics = tmp_path / "metrics.jsonl"
    assert unguided_staying(metrics, 20) is None
    for step, mirror, shift in ((10, 0.9, 0.9), (20, 0.2, 0.4), (30, 1.0, 1.0)):
        write_metrics(metrics, step, step / 10, {"validation/stays_mirror": mirror, "validation/stays_shift": shift})
    unguided = unguided_staying(metrics, 20)
    assert unguided == pytest.approx(0.3)
    line = staying_warning(staying, unguided, 72)
    assert line is not None and "\n" not in line and "1.00" in line and "0.30" in line
    assert staying_warning(moving, unguided, 72) is None
    assert staying_warning(staying, 0.9, 72) is None
    assert staying_warning(staying, None, 72) is None and staying_warning({}, unguided, 72) is None
    assert staying_warning(staying, unguided, 8) is None
    assert staying_warning(dict.fromkeys(staying, float("nan")), unguided, 72) is None
