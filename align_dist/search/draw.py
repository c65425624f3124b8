"""The values of a trial, drawn as a pure function of the search's seed and the trial's number."""

from __future__ import annotations

import random

from align_dist.schema.distributions import Distribution, Value


def draw(space: dict[str, Distribution], seed: int, number: int, attempt: int = 0) -> dict[str, Value]:
    """The values of trial `number`: a pure function of the arguments, each key's independent of the other keys."""
    return {
        key: distribution.at(random.Random(f"{seed}/{number}/{attempt}/{key}").random())
        for key, distribution in space.items()
    }
