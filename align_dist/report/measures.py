"""How each metric is written: its name, which way is better, its unit and its decimals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A metric's name, which way is better (+1 up, -1 down, 0 neither), its scale in tables, its decimals."""

    name: str
    better: int = 0
    scale: float = 1.0
    decimals: int = 3

    @property
    def title(self) -> str:
        """The name with an arrow to the better side."""
        arrows = {1: " \N{UPWARDS ARROW}", -1: " \N{DOWNWARDS ARROW}"}
        return self.name + arrows.get(self.better, "")

    def write(self, value: float, signed: bool = False) -> str:
        """A value in the table's unit."""
        return f"{value * self.scale:{'+' if signed else ''}.{self.decimals}f}"


MEASURES = {
    "accuracy": Measure("accuracy %", 1, 100, 1),
    "worst_class_accuracy": Measure("worst-class accuracy %", 1, 100, 1),
    "roc_auc": Measure("ROC-AUC", 1),
    "cross_entropy": Measure("cross-entropy", -1),
    "insertion_auc": Measure("insertion AUC", 1),
    "sufficiency": Measure("sufficiency", -1),
    "comprehensiveness": Measure("comprehensiveness", 1),
    "mask_iou": Measure("mask IoU", 1),
    "energy_inside": Measure("energy inside", 1),
    "pointing_game": Measure("pointing game", 1),
    "mask_area": Measure("mask area"),
    "binariness": Measure("binariness"),
}


def measure(metric: str) -> Measure:
    """How a metric is written; one not listed here keeps its own name and three decimals."""
    return MEASURES.get(metric, Measure(metric.replace("_", " ")))
