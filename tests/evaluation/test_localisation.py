from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score
from torch import Tensor

from align_dist.evaluation.localisation import (
    binariness,
    energy_inside,
    mask_area,
    mask_iou,
    pointing_game,
)

LEFT = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])


def random_maps(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.rand(3, 6, 6, generator=generator) > 0.6).float()
    truth[:, 0, 0] = 1.0
    return torch.rand(3, 6, 6, generator=generator), truth


def test_hand_worked_iou() -> None:
    mask = torch.tensor([[[0.9, 0.6], [0.2, 0.1]]])
    assert mask_iou(mask, LEFT).item() == pytest.approx(1 / 3)
    assert mask_iou(mask, LEFT, threshold=0.15).item() == pytest.approx(2 / 3)
    assert mask_iou(LEFT, LEFT).item() == 1.0
    assert mask_iou(1 - LEFT, LEFT).item() == 0.0


def test_hand_worked_energy() -> None:
    saliency = torch.tensor([[[3.0, 1.0], [-5.0, 0.0]]])
    assert energy_inside(saliency, LEFT).item() == pytest.approx(0.75)
    assert energy_inside(torch.zeros(1, 2, 2), LEFT).item() == 0.0


def test_hand_worked_pointing() -> None:
    assert pointing_game(torch.tensor([[[0.1, 0.2], [0.9, 0.3]]]), LEFT).item() == 1.0
    assert pointing_game(torch.tensor([[[0.1, 0.9], [0.2, 0.3]]]), LEFT).item() == 0.0
    assert pointing_game(torch.tensor([[[0.9, 0.9], [0.9, 0.3]]]), LEFT).item() == pytest.approx(2 / 3)


def test_hand_worked_area_and_binariness() -> None:
    mask = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    assert mask_area(mask).item() == 0.5
    assert binariness(mask).item() == 0.5


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_iou_agrees_with_scikit_learn(seed: int) -> None:
    mask, truth = random_maps(seed)
    pairs = zip(mask >= 0.5, truth >= 0.5, strict=True)
    expected = [jaccard_score(t.flatten(), m.flatten()) for m, t in pairs]
    torch.testing.assert_close(mask_iou(mask, truth), torch.tensor(expected, dtype=torch.float32))


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_inside_and_outside_add_up_to_one(seed: int) -> None:
    saliency, truth = random_maps(seed)
    truth[:, -1, -1] = 0.0
    for measure in (energy_inside, pointing_game):
        torch.testing.assert_close(measure(saliency, truth) + measure(saliency, 1 - truth), torch.ones(3))


def test_a_constant_map_scores_the_objects_area() -> None:
    _, truth = random_maps(5)
    constant = torch.full((3, 2, 2), 0.7)
    torch.testing.assert_close(pointing_game(constant, truth), mask_area(truth))
    torch.testing.assert_close(energy_inside(constant, truth), mask_area(truth))


def test_coarse_maps_are_brought_to_the_size_of_the_truth() -> None:
    truth = torch.zeros(1, 8, 8)
    truth[:, :4, :4] = 1.0
    coarse = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert pointing_game(coarse, truth).item() == 1.0
    assert energy_inside(coarse, truth) > 2 * truth.mean()
    assert 0.5 < mask_iou(coarse, truth).item() <= 1.0


def test_an_image_without_an_object_is_not_a_number_and_its_neighbours_stay() -> None:
    saliency, truth = random_maps(2)
    truth[1] = 0.0
    for values in (mask_iou(saliency, truth), pointing_game(saliency, truth), energy_inside(saliency, truth)):
        assert values.isnan().tolist() == [False, True, False]
