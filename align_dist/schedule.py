"""The schedule of a run in steps: pure functions of the config."""

from __future__ import annotations

import math
from dataclasses import dataclass

from align_dist.config import TrainingConfig
from align_dist.errors import ConfigError
from align_dist.options.clock import Clock
from align_dist.schema.values import Duration, OptimiserConfig, to_steps


@dataclass(frozen=True)
class Schedule:
    """Lengths and intervals of a run in steps. An interval of 0 means at the end alone."""

    length: int
    warmup: int
    validate_every: int
    checkpoint_every: int
    pictures_every: int
    epoch: float
    until: int | None = None

    @property
    def clock(self) -> Clock:
        """The part of the schedule that a method sees."""
        return Clock(self.length, self.warmup, self.epoch)

    @property
    def end(self) -> int:
        """Step at which the loop ends: the run's end, or earlier at training.until."""
        return self.length if self.until is None else min(self.until, self.length)

    def next_stop(self, step: int) -> int:
        """The next step after `step` at which the loop pauses to validate, draw, save or end."""
        intervals = (self.validate_every, self.checkpoint_every, self.pictures_every)
        return min([self.end, *((step // every + 1) * every for every in intervals if every)])

    def is_stop(self, step: int) -> bool:
        """Return whether the loop pauses after `step` steps."""
        return step == self.next_stop(step - 1)

    def is_due(self, step: int, every: int) -> bool:
        """Return whether an event with interval `every` is due after `step` steps."""
        return step == self.length or (every > 0 and step % every == 0)

    def may_select(self, step: int) -> bool:
        """Return whether model selection may choose the weights after `step` steps: not those within warm-up.

        Within warm-up a guided method's weights are those of the unguided classifier, which a run that selected them
        would report as its own. The rule holds for every method, so that all choose among equally many weights.
        """
        return step > self.warmup or step == self.length


def make_schedule(training: TrainingConfig, steps_per_epoch: float) -> Schedule:
    """The schedule of a run in steps. Raises ConfigError for an empty run or a warm-up longer than the run."""
    length, warmup = to_steps(training.length, steps_per_epoch), to_steps(training.warmup, steps_per_epoch)
    if length < 1:
        raise ConfigError(f"training.length: {training.length} is less than one step; make it longer")
    if warmup > length:
        raise ConfigError(
            f"training.warmup: {training.warmup} ({warmup} steps) is longer than the run ({length} steps); shorten it"
        )
    intervals = (training.validate_every, training.checkpoint_every, training.pictures_every)
    validate, checkpoint, pictures = (_interval(every, steps_per_epoch) for every in intervals)
    until = None if training.until is None else to_steps(training.until, steps_per_epoch)
    return Schedule(length, warmup, validate, checkpoint, pictures, steps_per_epoch, until)


def _interval(every: Duration, steps_per_epoch: float) -> int:
    """An interval in steps, at least 1 unless the config says 0."""
    return 0 if every.split()[0] == "0" else max(1, to_steps(every, steps_per_epoch))


def learning_rate(optimiser: OptimiserConfig, step: int, start: int, end: int) -> float:
    """Learning rate at `step` of a network that trains from `start` to `end`: constant, or half a cosine to 0."""
    if optimiser.schedule == "constant" or end <= start:
        return optimiser.learning_rate
    progress = min(max((step - start) / (end - start), 0.0), 1.0)
    return optimiser.learning_rate * (1 + math.cos(math.pi * progress)) / 2
