from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix as reference_confusion_matrix
from sklearn.metrics import log_loss, recall_score, roc_auc_score

from align_dist.evaluation.accuracy import (
    accuracy,
    calibration_bins,
    confusion_matrix,
    cross_entropy,
    group_metrics,
    per_class_accuracy,
    per_group_accuracy,
    roc_auc,
    worst_class_accuracy,
)

HAND = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
HAND_LABELS = np.array([0, 0, 1, 1])


def random_problem(seed: int, images: int, classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), size=images)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    return probabilities, labels


def test_hand_worked_accuracies() -> None:
    assert accuracy(HAND, HAND_LABELS) == 0.5
    assert per_class_accuracy(HAND, HAND_LABELS) == {0: 0.5, 1: 0.5}
    assert per_class_accuracy(HAND, [0, 1, 1, 0]) == {0: 0.5, 1: 1.0}
    assert worst_class_accuracy(HAND, [0, 1, 1, 0]) == 0.5


def test_hand_worked_roc_auc() -> None:
    """Class 0: .7 .4 against .1 .3, all pairs in order; class 1: .6 .3 against .2 .5, three pairs of four."""
    assert roc_auc(HAND, HAND_LABELS) == pytest.approx((1.0 + 0.75) / 2)


def test_of_equal_probabilities_half_the_pairs_are_in_order() -> None:
    """Class 0: .5 against .5 and .2; class 1: .5 and .8 against .5."""
    assert roc_auc([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8]], [0, 1, 1]) == pytest.approx((0.75 + 0.75) / 2)


def test_hand_worked_cross_entropy() -> None:
    assert cross_entropy([[0.5, 0.5], [0.25, 0.75]], [0, 0]) == pytest.approx((math.log(2) + math.log(4)) / 2)


@given(st.integers(0, 2**32 - 1), st.integers(6, 40), st.integers(3, 6))
def test_agrees_with_scikit_learn(seed: int, images: int, classes: int) -> None:
    probabilities, labels = random_problem(seed, images, classes)
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert roc_auc(probabilities, labels) == pytest.approx(expected, abs=1e-12)
    assert cross_entropy(probabilities, labels) == pytest.approx(log_loss(labels, probabilities), rel=1e-9)
    recalls = recall_score(labels, probabilities.argmax(1), average=None, zero_division=0)
    assert list(per_class_accuracy(probabilities, labels).values()) == pytest.approx(list(recalls))


@given(st.integers(0, 2**32 - 1), st.integers(6, 30))
def test_accuracy_is_the_mean_of_class_accuracies_weighted_by_images(seed: int, images: int) -> None:
    probabilities, labels = random_problem(seed, images, 4)
    parts = per_class_accuracy(probabilities, labels)
    weighted = sum(parts[c] * np.mean(labels == c) for c in parts)
    assert accuracy(probabilities, labels) == pytest.approx(weighted)
    assert worst_class_accuracy(probabilities, labels) <= accuracy(probabilities, labels) + 1e-12


def test_absent_classes_are_skipped() -> None:
    probabilities, labels = random_problem(3, 30, 3)
    wider = np.concatenate([probabilities * 0.9, np.full((30, 2), 0.05)], axis=1)
    assert set(per_class_accuracy(wider, labels)) == {0, 1, 2}
    assert roc_auc(wider, labels) == pytest.approx(roc_auc(probabilities, labels))


def test_nothing_left_is_not_a_number() -> None:
    assert math.isnan(roc_auc(HAND, [1, 1, 1, 1]))
    assert math.isnan(roc_auc([[0.5, 0.5], [math.nan, math.nan]], [0, 1]))
    assert math.isnan(accuracy(np.zeros((0, 3)), []))
    assert math.isnan(worst_class_accuracy(np.zeros((0, 3)), []))


def test_a_probability_of_zero_stays_finite() -> None:
    assert 700 < cross_entropy([[0.0, 1.0]], [0]) < 710


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2, 3], [-1, 0, 0, 0]])
def test_impossible_labels_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError):
        accuracy(HAND, labels)


def test_groups_by_hand() -> None:
    probabilities = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]]
    labels, groups = [0, 0, 1, 1, 1], [0, 1, 2, 2, 2]
    assert per_group_accuracy(probabilities, labels, groups) == pytest.approx({0: 1.0, 1: 0.0, 2: 2 / 3})
    names = ("land", "water", "bird", "none")
    metrics = group_metrics(probabilities, labels, groups, names, [60, 10, 30, 5])
    assert metrics == pytest.approx(
        {
            "worst_group_accuracy": 0.0,
            "adjusted_accuracy": (60 * 1 + 10 * 0 + 30 * 2 / 3) / 100,
            "accuracy_of_group/land": 1.0,
            "accuracy_of_group/water": 0.0,
            "accuracy_of_group/bird": 2 / 3,
        }
    )
    untrained = group_metrics(probabilities, labels, groups, names, [0, 0, 0, 0])
    assert np.isnan(untrained["adjusted_accuracy"])


@pytest.mark.parametrize("seed", range(3))
def test_confusion_agrees_with_scikit_learn(seed: int) -> None:
    probabilities, labels = random_problem(seed, 30, 4)
    expected = reference_confusion_matrix(labels, probabilities.argmax(1), labels=range(4))
    np.testing.assert_array_equal(confusion_matrix(probabilities, labels), expected)


def test_calibration_by_hand() -> None:
    """Bins of a quarter: a half belongs to the second, certainty to the last."""
    bins = calibration_bins([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]], [0, 1, 1], bins=4)
    np.testing.assert_allclose(bins, [[0, 0, 0], [1, 0.5, 1], [0, 0, 0], [2, 1.9, 1]])
