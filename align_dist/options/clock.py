"""The clock of a run: the part of the schedule that a method sees."""

from __future__ import annotations

from dataclasses import dataclass

from align_dist.schema.values import Duration, to_steps


@dataclass(frozen=True)
class Clock:
    """length, warmup: of the run, in steps; guidance starts at step `warmup`. epoch: steps per epoch, a fraction."""

    length: int
    warmup: int
    epoch: float

    def steps(self, duration: Duration) -> int:
        """A duration in steps."""
        return to_steps(duration, self.epoch)
