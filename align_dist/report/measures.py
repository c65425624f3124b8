"""Presentation of metrics: name, direction, unit, decimals and meaning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A metric's name, the better direction (+1 up, -1 down, 0 neither), scale in tables, decimals, and meaning in one
    sentence.
    """

    name: str
    better: int = 0
    scale: float = 1.0
    decimals: int = 3
    meaning: str = ""

    @property
    def title(self) -> str:
        """The name with an arrow in the better direction."""
        arrows = {1: " \N{UPWARDS ARROW}", -1: " \N{DOWNWARDS ARROW}"}
        return self.name + arrows.get(self.better, "")

    def write(self, value: float, signed: bool = False) -> str:
        """A value in the table's unit."""
        return f"{value * self.scale:{'+' if signed else ''}.{self.decimals}f}"


MEASURES = {
    "accuracy": Measure("accuracy %", 1, 100, 1, "Share of images whose most probable class is the true one."),
    "worst_class_accuracy": Measure("worst-class accuracy %", 1, 100, 1, "Smallest accuracy over the classes."),
    "roc_auc": Measure(
        "ROC-AUC", 1, meaning="How well probabilities rank images of a class above others, mean over classes."
    ),
    "cross_entropy": Measure("cross-entropy", -1, meaning="Mean of -log p of the true class."),
    "insertion_auc": Measure(
        "insertion AUC",
        1,
        meaning="Mean probability of the predicted class as a blurred image is uncovered, Grad-CAM's highest first.",
    ),
    "deletion_auc": Measure(
        "deletion AUC",
        -1,
        meaning="Mean probability of the predicted class as an image is covered by its mean colour, Grad-CAM's highest "
        "first.",
    ),
    "sufficiency": Measure(
        "sufficiency",
        -1,
        meaning="Probability of the predicted class lost when only Grad-CAM's top 1 to 50 % of pixels stay.",
    ),
    "comprehensiveness": Measure(
        "comprehensiveness",
        1,
        meaning="Probability of the predicted class lost when Grad-CAM's top 1 to 50 % of pixels go.",
    ),
    "soft_sufficiency": Measure(
        "soft sufficiency",
        -1,
        meaning="Probability of the predicted class lost when the image is multiplied by Grad-CAM.",
    ),
    "soft_comprehensiveness": Measure(
        "soft comprehensiveness",
        1,
        meaning="Probability of the predicted class lost when the image is multiplied by 1 - Grad-CAM.",
    ),
    "mask_iou": Measure("mask IoU", 1, meaning="Overlap of the learned mask, cut at 0.5, with the true object mask."),
    "energy_inside": Measure("energy inside", 1, meaning="Share of Grad-CAM that lies inside the true object mask."),
    "pointing_game": Measure(
        "pointing game", 1, meaning="Share of images where Grad-CAM's highest point lies inside the true object mask."
    ),
    "mask_area": Measure("mask area", meaning="Mean of the learned mask: the share of the image that it keeps."),
    "mask_binariness": Measure("mask binariness", meaning="Mean of |2m - 1|: 1 for a mask of 0 and 1 only."),
    "worst_group_accuracy": Measure("worst-group accuracy %", 1, 100, 1, "Smallest accuracy over the groups."),
    "adjusted_accuracy": Measure(
        "adjusted accuracy %", 1, 100, 1, "Mean of the groups' accuracies, weighted by their shares of training images."
    ),
    "commonest_cell": Measure(
        "commonest cell %", -1, 100, 1, "Share of images whose Grad-CAM has its maximum in the most common cell."
    ),
    "map_cells": Measure(
        "cells of a map",
        0,
        1,
        0,
        "Number of Grad-CAM's cells; by chance one in so many images has the most common cell.",
    ),
    "map_following": Measure(
        "map following",
        1,
        meaning="How far Grad-CAM follows a mirrored or shifted image: 1 fully, 0 no more than another image's map.",
    ),
    "map_likeness": Measure("map likeness", -1, meaning="Correlation of Grad-CAM of different images."),
    "follows_mirror": Measure("follows mirroring", 1, meaning="Correlation of a mirrored image's map, mirrored back."),
    "stays_mirror": Measure(
        "stays under mirroring", -1, meaning="Correlation of a mirrored image's map, not mirrored back."
    ),
    "follows_shift": Measure("follows a shift", 1, meaning="Correlation of a shifted image's map, shifted back."),
    "stays_shift": Measure(
        "stays under a shift", -1, meaning="Correlation of a shifted image's map, not shifted back."
    ),
    "original_accuracy": Measure("original %", 1, 100, 1, "Accuracy on original images with an object."),
    "mixed_same_accuracy": Measure(
        "mixed-same %", 1, 100, 1, "Accuracy on objects on another image's background, of the same class."
    ),
    "mixed_random_accuracy": Measure(
        "mixed-random %", 1, 100, 1, "Accuracy on objects on another image's background, of a random class."
    ),
    "background_gap": Measure(
        "BG-gap %", -1, 100, 1, "Mixed-same minus mixed-random: the gain from a fitting background."
    ),
    "background_lipschitz_mean": Measure(
        "background Lipschitz, mean ×10³",
        -1,
        1000,
        meaning="Change of probabilities over change of pixels for another background; mean over four.",
    ),
    "background_lipschitz_max": Measure(
        "background Lipschitz, max ×10³",
        -1,
        1000,
        meaning="The same, largest of four: a lower bound of the image's Lipschitz constant, mean over images.",
    ),
    "background_change": Measure("ε", -1, meaning="Change of probabilities for another background."),
    "mse_gap": Measure("|ΔMSE|", -1, meaning="Squared error of the target minus the source's."),
    "mse_bound": Measure("4 |ΔE f|", meaning="Lemma 2's bound of |ΔMSE|, f the true class's probability."),
    "lemma2_holds": Measure("Lemma 2 holds %", 0, 100, 0, "Share of runs and domains in which that bound holds."),
    "true_class_distance": Measure("W", -1, meaning="Wasserstein distance of f; above |ΔE f| where f moves both ways."),
    "cross_entropy_gap": Measure("ΔCE", -1, meaning="Cross-entropy of the target minus the source's, clipped."),
    "cross_entropy_ratio": Measure(
        "C",
        meaning="ΔCE / ε, Lemma 3: a ratio, not a bound.",
    ),
}
OF_GROUP = "accuracy_of_group/"


def measure(metric: str) -> Measure:
    """The presentation of a metric; an unlisted metric keeps its own name and three decimals."""
    if metric.startswith(OF_GROUP):
        return Measure(f"{metric.removeprefix(OF_GROUP)} %", 1, 100, 1, "Accuracy on this group.")
    return MEASURES.get(metric, Measure(metric.replace("_", " ")))
