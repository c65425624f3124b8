"""Both sides of the lemmas, by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from align_dist.evaluation.lemmas import (
    Answers,
    broken_assumptions,
    cross_entropy_gap,
    sensitivity,
    squared_error,
    squared_error_gap,
    wasserstein,
)

samples = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def of_two_classes(true: list[float]) -> Answers:
    """Two classes, by turns the true one, and the true one's probabilities."""
    labels = np.arange(len(true)) % 2
    values = np.array([[p, 1 - p] if label == 0 else [1 - p, p] for p, label in zip(true, labels, strict=True)])
    return Answers(values, labels)


def test_sensitivity_by_hand() -> None:
    original = np.array([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]])
    mixed = np.array([[[0.4, 0.6], [1.0, 0.0]], [[0.8, 0.2], [0.9, 0.1]], [[0.0, 1.0], [0.0, 1.0]]])
    # Changes √2 times (.6, 0), (.3, left out); the third image has no pair.
    metrics = sensitivity(original, mixed, np.array([[3.0, 2.0], [1.0, 0.0], [0.0, 0.0]]))
    root = math.sqrt(2)
    assert metrics["background_change"] == pytest.approx(root * (0.6 + 0 + 0.3) / 3)
    assert metrics["background_lipschitz_mean"] == pytest.approx(root * ((0.2 + 0) / 2 + 0.3) / 2)
    assert metrics["background_lipschitz_max"] == pytest.approx(root * (0.2 + 0.3) / 2)
    assert np.isnan(list(sensitivity(original, mixed, np.zeros((3, 2))).values())).all()


@given(samples, samples)
def test_the_distance_is_that_of_scipy(first: list[float], second: list[float]) -> None:
    assert wasserstein(np.array(first), np.array(second)) == pytest.approx(
        float(wasserstein_distance(first, second)), abs=1e-12
    )


def test_lemma_2_by_hand() -> None:
    source, target = of_two_classes([0.8, 0.6]), of_two_classes([0.4, 0.5])
    assert squared_error(source) == pytest.approx((2 * 0.04 + 2 * 0.16) / 2)
    metrics = squared_error_gap(source, target)
    # Errors .2 and (2 · .36 + 2 · .25) / 2 = .61; means .7 and .45.
    assert metrics == pytest.approx(
        {"mse_gap": 0.41, "mse_bound": 1.0, "lemma2_holds": 1.0, "true_class_distance": 0.25}, abs=1e-12
    )


@given(samples, samples)
def test_with_two_classes_four_distances_are_a_bound(first: list[float], second: list[float]) -> None:
    metrics = squared_error_gap(of_two_classes(first), of_two_classes(second))
    assert metrics["mse_gap"] <= 4 * metrics["true_class_distance"] + 1e-9
    assert metrics["true_class_distance"] >= metrics["mse_bound"] / 4 - 1e-9


@given(samples, st.floats(-1, 1))
def test_with_two_classes_and_one_way_lemma_2_holds(first: list[float], shift: float) -> None:
    second = [min(1.0, max(0.0, value + shift)) for value in first]
    metrics = squared_error_gap(of_two_classes(first), of_two_classes(second))
    assert metrics["lemma2_holds"] == 1
    assert metrics["true_class_distance"] == pytest.approx(metrics["mse_bound"] / 4)


def test_lemma_2_fails_where_probability_moves_both_ways_or_is_spread_otherwise() -> None:
    ways = squared_error_gap(of_two_classes([0.5, 0.5]), of_two_classes([0.0, 1.0]))
    assert (ways["mse_gap"], ways["mse_bound"], ways["lemma2_holds"]) == (pytest.approx(0.5), 0, 0)
    first, second = np.array([[0.5, 0.5, 0.0]]), np.array([[0.5, 0.25, 0.25]])
    spread = squared_error_gap(Answers(first, np.array([0])), Answers(second, np.array([0])))
    assert (spread["mse_gap"], spread["mse_bound"], spread["lemma2_holds"]) == (pytest.approx(0.125), 0, 0)
    assert spread["true_class_distance"] == 0


def test_cross_entropy_by_hand_and_clipped() -> None:
    source, target = of_two_classes([0.5, 0.5]), of_two_classes([0.25, 0.5])
    metrics = cross_entropy_gap(source, target, 0.1)
    assert metrics["cross_entropy_gap"] == pytest.approx(math.log(2) / 2)
    assert metrics["cross_entropy_ratio"] == pytest.approx(math.log(2) / 2 / 0.1)
    assert metrics["clipped_share"] == 0
    clipped = cross_entropy_gap(of_two_classes([1.0]), of_two_classes([0.0]), 0.0)
    assert clipped["cross_entropy_gap"] == pytest.approx(6 * math.log(10))
    assert math.isnan(clipped["cross_entropy_ratio"]) and clipped["clipped_share"] == 0.5


def test_each_broken_assumption_has_a_line_of_its_own() -> None:
    def lines(source: Answers, target: Answers, classes: int = 2) -> list[str]:
        return broken_assumptions(squared_error_gap(source, target) | cross_entropy_gap(source, target, 0.1), classes)

    one_way = (of_two_classes([0.5, 0.6]), of_two_classes([0.7, 0.8]))
    assert lines(*one_way) == []
    assert broken_assumptions({}, 5) == []
    (none,) = broken_assumptions({"theory_images": 0.0}, 2)
    assert "no image has an object" in none
    (many,) = lines(*one_way, classes=5)
    assert "Lemma 2" in many and "5 classes" in many
    both_ways, clipped = lines(of_two_classes([0.5, 0.5]), of_two_classes([0.0, 1.0]))
    assert "does not hold" in both_ways and "rises" in both_ways
    assert "Lemma 3" in clipped and "25.0%" in clipped
