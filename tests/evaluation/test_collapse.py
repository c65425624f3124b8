"""Collapse of maps, by hand and by networks whose maps are known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known_maps import BrightSpot, FixedDot, dots, measured, pictures_of

from align_dist.evaluation.collapse import Agreement, agreement, commonest_cell


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
    result = agreement(first, second)
    assert result.own == pytest.approx(-0.5) and result.chance == pytest.approx(-(3**0.5) / 4)
    assert agreement(first * 4 - 1, second + 7) == pytest.approx(result)
    against = agreement(first, torch.zeros_like(first))
    assert against == Agreement(0.0, 0.0) and against.above_chance == 0


def test_agreement_above_chance_is_corrected_as_kappa_is() -> None:
    assert Agreement(0.8, 0.5).above_chance == pytest.approx(0.6)
    assert Agreement(1.0, 1.0).above_chance == 0


PLACES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=40)


@given(row=st.integers(0, 5), column=st.integers(0, 5), places=PLACES)
def test_a_fixed_dot_is_one_cell_and_follows_nothing(row: int, column: int, places: list[tuple[int, int]]) -> None:
    metrics = measured(FixedDot(row, column), pictures_of(places))
    assert metrics["commonest_cell"] == 1 and metrics["map_cells"] == 36
    assert metrics["map_likeness"] == pytest.approx(1) and metrics["stays_mirror"] == pytest.approx(1)
    assert metrics["map_following"] == pytest.approx(0, abs=1e-6)


@given(places=PLACES)
def test_a_map_of_the_pictures_own_bright_spot_follows_it_all_the_way(places: list[tuple[int, int]]) -> None:
    # At least two places that are seen in either half and after the shift.
    places = [*places, (0, 0), (3, 2), (5, 1)]
    metrics = measured(BrightSpot(), pictures_of(places))
    assert metrics["follows_mirror"] == pytest.approx(1) and metrics["follows_shift"] == pytest.approx(1)
    assert metrics["map_following"] == pytest.approx(1)
    assert metrics["stays_mirror"] < 0.1 and metrics["stays_shift"] < 0.1
    assert metrics["commonest_cell"] == max(places.count(place) for place in places) / len(places)
