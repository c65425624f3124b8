"""Weights that change over time."""

from __future__ import annotations


def ramped(weight: float, step: int, start: int, length: int) -> float:
    """A weight at a step: 0 for the first half of the `length` steps from `start` on, then a straight line up to it.

    length: 0 for the weight from the start.
    """
    if not length:
        return weight
    return min(1.0, max(0.0, 2 * (step - start) / length - 1)) * weight
