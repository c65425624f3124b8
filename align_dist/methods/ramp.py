"""A schedule of a loss weight."""

from __future__ import annotations


def ramp_weight(weight: float, step: int, start: int, length: int) -> float:
    """A weight at a step: 0 for the first half of `length` steps after `start`, then a linear ramp to `weight`.

    length: 0 for the full weight at every step.
    """
    if not length:
        return weight
    return min(1.0, max(0.0, 2 * (step - start) / length - 1)) * weight
