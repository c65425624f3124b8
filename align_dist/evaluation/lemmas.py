"""Metrics for lemmas 1 to 3 of ALIGN (arXiv 2511.06944): pure functions of probabilities.

f: softmax probabilities of a trained network. x': an image's object on another image's background, see `mixing`.
Lemma 4, whole objects against parts of objects in domain, compares two runs and needs no metric here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from align_dist.evaluation.accuracy import accuracy

Array = NDArray[np.float64]
Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
NAN = float("nan")
# Lower bound of probabilities: without it, one image of probability 0 would dominate the mean cross-entropy.
SMALLEST_PROBABILITY = 1e-6
# Tolerance for float32 probabilities summed in double precision.
ROUNDING = 1e-6


class Answers(NamedTuple):
    """Softmax probabilities (N, C) and true classes (N,)."""

    probabilities: Array
    labels: Ids

    @property
    def of_true_class(self) -> Array:
        """f_y(x), (N,) in [0, 1]."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]


def sensitivity(original: Array, mixed: Array, distance: Array) -> dict[str, float]:
    """Lemma 1: the change of probabilities when only the background changes.

    background_change, ε: mean of ‖f(x') − f(x)‖₂, in [0, √2]. background_lipschitz_mean, background_lipschitz_max:
    mean and maximum of ‖f(x') − f(x)‖₂ / ‖x' − x‖₂ over an image's backgrounds, averaged over images. Ratios of
    finitely many pairs give only a lower bound of the lemma's local Lipschitz constant.

    original: (N, C). mixed: (N, K, C). distance: (N, K); a pair of distance 0 is left out. NaN where no pair is left.
    """
    change = np.linalg.norm(mixed - original[:, None], axis=2)
    is_pair = distance > 0
    has_pair = is_pair.any(1)
    if not has_pair.any():
        return dict.fromkeys(("background_change", "background_lipschitz_mean", "background_lipschitz_max"), NAN)
    ratio = np.where(is_pair, change / np.where(is_pair, distance, 1), 0)[has_pair]
    return {
        "background_change": float(change[is_pair].mean()),
        "background_lipschitz_mean": float((ratio.sum(1) / is_pair[has_pair].sum(1)).mean()),
        "background_lipschitz_max": float(ratio.max(1).mean()),
    }


def background_accuracy(original: Answers, same: Answers, random: Answers) -> dict[str, float]:
    """Top-1 accuracy on images, and on objects on backgrounds of the same and of a random class, in [0, 1].

    background_gap: same − random, the BG-gap of Xiao et al. 2021 (https://arxiv.org/abs/2006.09994): the benefit of a
    background that fits the class while the object is present.
    """
    on_same, on_random = accuracy(*same), accuracy(*random)
    return {
        "original_accuracy": accuracy(*original),
        "mixed_same_accuracy": on_same,
        "mixed_random_accuracy": on_random,
        "background_gap": on_same - on_random,
    }


def squared_error(answers: Answers) -> float:
    """MSE: the mean over images of ‖f(x) − e_y‖₂², with e_y the one-hot label; in [0, 2]."""
    one_hot = np.eye(answers.probabilities.shape[1])[answers.labels]
    return float(np.square(answers.probabilities - one_hot).sum(1).mean())


def wasserstein(first: Array, second: Array) -> float:
    """1-Wasserstein distance of two samples (N,) and (M,) of numbers: ∫ |F − G|, with F and G the empirical
    distribution functions.
    """
    points = np.sort(np.concatenate([first, second]))
    distributions = [np.searchsorted(np.sort(values), points[:-1], "right") / len(values) for values in (first, second)]
    return float((np.abs(distributions[0] - distributions[1]) * np.diff(points)).sum())


def squared_error_gap(source: Answers, target: Answers) -> dict[str, float]:
    """Lemma 2: both sides of |MSE_T − MSE_S| ≤ 4 |E_T f − E_S f|, with f the probability p of the true class.

    With two classes ‖f − e_y‖² = 2 (1 − p)², and |2 (1 − a)² − 2 (1 − b)²| = 2 |a − b| |2 − a − b| ≤ 4 |a − b| for a, b
    in [0, 1]; averaged over images of T and S paired by rank of p, |ΔMSE| ≤ 4 W, with W their Wasserstein distance;
    W = |E_T p − E_S p| exactly if p moves in one direction at every rank.

    The lemma can therefore fail for a network with more than two classes (the error also depends on how the remaining
    probability is spread), and where p rises on some images and falls on others. With the probability of one fixed
    class in place of the true class, the lemma fails as soon as the label distributions differ.

    mse_gap: the left side. mse_bound: the right side. lemma2_holds: 1 or 0. true_class_distance: W, in [0, 1].
    """
    gap = abs(squared_error(target) - squared_error(source))
    bound = 4 * abs(float(target.of_true_class.mean() - source.of_true_class.mean()))
    return {
        "mse_gap": gap,
        "mse_bound": bound,
        "lemma2_holds": float(gap <= bound + ROUNDING),
        "true_class_distance": wasserstein(source.of_true_class, target.of_true_class),
    }


def cross_entropy_gap(source: Answers, target: Answers, change: float) -> dict[str, float]:
    """Lemma 3: CE_T − CE_S, and its ratio C to ε.

    Probabilities are clipped to at least 1e-6. Cross-entropy has no bound, so neither has C for a real network, and
    with clipping |log a − log b| ≤ 10⁶ |a − b| gives a meaningless bound. C is therefore the measured ratio, not a
    bound. If T is another domain, its objects and class shares differ too, which ε does not include.

    change: ε of `sensitivity`. cross_entropy_gap: in nats, in [−13.8, 13.8]. cross_entropy_ratio: C, NaN where ε is 0.
    clipped_share: share of clipped images in S and T, in [0, 1].
    """
    probabilities = [np.maximum(answers.of_true_class, SMALLEST_PROBABILITY) for answers in (source, target)]
    gap = float(np.log(probabilities[0]).mean() - np.log(probabilities[1]).mean())
    both = np.concatenate([source.of_true_class, target.of_true_class])
    return {
        "cross_entropy_gap": gap,
        "cross_entropy_ratio": gap / change if change > 0 else NAN,
        "clipped_share": float((both < SMALLEST_PROBABILITY).mean()),
    }


def broken_assumptions(metrics: Mapping[str, float], classes: int) -> list[str]:
    """Assumptions of the lemmas that a run violates, one line each; empty where the lemmas are not measured."""
    if metrics.get("theory_images") == 0:
        return ["Lemmas 1 to 3: not measured, because no mask reaches 0.5 and no image has an object"]
    if "mse_gap" not in metrics:
        return []
    lines = []
    distance, bound = metrics["true_class_distance"], metrics["mse_bound"]
    reasons = [f"there are {classes} classes instead of two"] if classes > 2 else []
    if distance > bound / 4 + ROUNDING:
        reasons.append("the true class's probability rises on some images and falls on others")
    if reasons:
        verdict = "holds nevertheless" if metrics["lemma2_holds"] else "does not hold"
        sides = f"|ΔMSE| {metrics['mse_gap']:.3f}, 4 |ΔE f| {bound:.3f}"
        lines.append(f"Lemma 2 {verdict} ({sides}): {' and '.join(reasons)}")
    if metrics["clipped_share"] > 0:
        lines.append(
            f"Lemma 3: {metrics['clipped_share']:.1%} of the true class's probabilities are below "
            f"{SMALLEST_PROBABILITY:g} and clipped, because cross-entropy has no bound"
        )
    return lines
