"""Classification metrics: pure functions of probabilities (N, C) and labels (N,).

ROC-AUC is the area under the ROC curve, not the "AUC" of the ALIGN paper's tables, which is most probably insertion
AUC: see `faithfulness.insertion_curve`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALLEST_PROBABILITY = float(np.finfo(np.float64).tiny)


def accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Top-1 accuracy in [0, 1]: the share of images whose most probable class is the label.

    Among equally probable classes the lowest index is predicted. NaN for no images.
    """
    values, truth = _arrays(probabilities, labels)
    return float(np.mean(values.argmax(1) == truth)) if len(truth) else float("nan")


def per_class_accuracy(probabilities: ArrayLike, labels: ArrayLike) -> dict[int, float]:
    """Class -> top-1 accuracy on the images of that class (recall), in [0, 1]; absent classes are skipped."""
    values, truth = _arrays(probabilities, labels)
    is_correct = values.argmax(1) == truth
    return {int(c): float(is_correct[truth == c].mean()) for c in np.unique(truth)}


def worst_class_accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The smallest accuracy over the present classes, in [0, 1]; NaN for no images."""
    return min(per_class_accuracy(probabilities, labels).values(), default=float("nan"))


def per_group_accuracy(probabilities: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> dict[int, float]:
    """Group -> top-1 accuracy on its images, in [0, 1]; absent groups are skipped. groups: (N,)."""
    values, truth = _arrays(probabilities, labels)
    group_of_image, is_correct = np.asarray(groups, np.int64), values.argmax(1) == truth
    return {int(g): float(is_correct[group_of_image == g].mean()) for g in np.unique(group_of_image)}


def group_metrics(
    probabilities: ArrayLike, labels: ArrayLike, groups: ArrayLike, names: Sequence[str], training: ArrayLike
) -> dict[str, float]:
    """Worst-group accuracy, adjusted accuracy and each group's accuracy by name, in [0, 1].

    adjusted_accuracy: the mean of the groups' accuracies weighted by their shares of the training images, for a test
    part with other shares. groups: (N,). names: of all G groups. training: number of training images per group, (G,).
    Groups absent from the test or training images do not count; NaN where no group is left. Source: Sagawa et al. 2020,
    https://arxiv.org/abs/1911.08731, appendix C.1.
    """
    accuracies = per_group_accuracy(probabilities, labels, groups)
    weights = np.asarray(training, np.float64)[list(accuracies)]
    total = float(weights.sum())
    return {
        "worst_group_accuracy": min(accuracies.values(), default=float("nan")),
        "adjusted_accuracy": float(weights @ list(accuracies.values())) / total if total else float("nan"),
        **{f"accuracy_of_group/{names[group]}": value for group, value in accuracies.items()},
    }


def roc_auc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Macro one-versus-rest area under the ROC curve, in [0, 1], chance at 0.5.

    The unweighted mean over classes with positive and negative images; other classes have no ROC curve and are
    skipped. NaN where no class is left, and for probabilities that are not numbers.
    """
    values, truth = _arrays(probabilities, labels)
    present = np.unique(truth)
    if len(present) < 2 or np.isnan(values).any():
        return float("nan")
    return float(np.mean([_area_under_curve(values[:, c], truth == c) for c in present]))


def _area_under_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The share of pairs of a positive and a negative image of which the positive one has the higher score, ties half.

    By rank sums (Hanley and McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747), because importing
    scikit-learn's `roc_auc_score`, which is the same, takes longer than measuring a small domain.
    """
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[places]
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def confusion_matrix(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Images (C, C) by true class and predicted class."""
    values, truth = _arrays(probabilities, labels)
    classes = values.shape[1]
    return np.bincount(truth * classes + values.argmax(1), minlength=classes**2).reshape(classes, classes)


def calibration_bins(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> NDArray[np.float64]:
    """Images by the probability of their predicted class, in evenly spaced bins over (0, 1]: (bins, 3) with the number
    of images, the sum of those probabilities, and the number of right predictions.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 2.
    """
    values, truth = _arrays(probabilities, labels)
    confidence, is_correct = values.max(1, initial=0.0), values.argmax(1) == truth
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    sums = [np.bincount(index, weights, bins) for weights in (None, confidence, is_correct.astype(np.float64))]
    return np.stack(sums, axis=1).astype(np.float64)


def cross_entropy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean of -log p(label) in nats, in [0, 709]; NaN for no images.

    A probability of exactly zero counts as the smallest normal double, so that one confident error cannot
    make the mean infinite.
    """
    values, truth = _arrays(probabilities, labels)
    if not len(truth):
        return float("nan")
    of_label = values[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(of_label, SMALLEST_PROBABILITY)).mean())


def _arrays(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities and labels as arrays. Raises ValueError for wrong shapes or labels out of range."""
    values, truth = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    if values.ndim != 2 or truth.shape != values.shape[:1]:
        raise ValueError(f"expected shapes (N, C) and (N,), got {values.shape} and {truth.shape}")
    if len(truth) and not 0 <= truth.min() <= truth.max() < values.shape[1]:
        raise ValueError(f"labels must lie in [0, {values.shape[1]}), got [{truth.min()}, {truth.max()}]")
    return values, truth
