"""When things happen, in steps: pure functions of a run's description."""

from __future__ import annotations

import math
from dataclasses import dataclass

from align_dist.config import OptimiserConfig, TrainingConfig, to_steps
from align_dist.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """All lengths in steps; the intervals are at least 1."""

    length: int
    warmup: int
    masker_start: int
    validate_every: int
    checkpoint_every: int
    pictures_every: int
    epoch: float
    sparsity_ramp: int = 0
    until: int | None = None

    @property
    def end(self) -> int:
        """Where the loop leaves: the run's end, or earlier where it is to pause."""
        return self.length if self.until is None else min(self.until, self.length)

    def next_stop(self, step: int) -> int:
        """The next step, after `step`, before which the loop pauses: to validate, draw, save, or to end."""
        intervals = (self.validate_every, self.checkpoint_every, self.pictures_every)
        return min([self.end, *((step // every + 1) * every for every in intervals)])

    def due(self, step: int, every: int) -> bool:
        """Whether something that happens every so many steps happens after `step` steps."""
        return step % every == 0 or step == self.length

    def selectable(self, step: int) -> bool:
        """Whether model selection may choose the weights after `step` steps: not those from within warm-up.

        They are the same for every method, so a run that chose them would report another method's weights.
        """
        return step > self.warmup or step == self.length


def make_schedule(training: TrainingConfig, steps_per_epoch: float) -> Schedule:
    """Lengths of a run in steps. Raises ConfigError for a warm-up that is longer than the run."""
    length, warmup = to_steps(training.length, steps_per_epoch), to_steps(training.warmup, steps_per_epoch)
    if length < 1:
        raise ConfigError(f"training.length: {training.length} is no step at all; make it longer")
    if warmup > length:
        raise ConfigError(
            f"training.warmup: {training.warmup} ({warmup} steps) is longer than the run ({length} steps); shorten it"
        )
    intervals = (training.validate_every, training.checkpoint_every, training.pictures_every)
    validate, checkpoint, pictures = (max(1, to_steps(every, steps_per_epoch)) for every in intervals)
    head_start = to_steps(training.masker_head_start, steps_per_epoch)
    ramp = to_steps(training.sparsity_ramp, steps_per_epoch)
    start = max(0, warmup - head_start)
    until = None if training.until is None else to_steps(training.until, steps_per_epoch)
    return Schedule(length, warmup, start, validate, checkpoint, pictures, steps_per_epoch, ramp, until)


def check_masker(training: TrainingConfig, schedule: Schedule) -> None:
    """Raises ConfigError for lengths under which a method with a masker would not do what they say."""
    head_start = to_steps(training.masker_head_start, schedule.epoch)
    if head_start > schedule.warmup:
        raise ConfigError(
            f"training.masker_head_start: {training.masker_head_start} ({head_start} steps) is longer than "
            f"training.warmup ({schedule.warmup} steps); shorten it"
        )
    learns = schedule.length - schedule.masker_start
    if schedule.sparsity_ramp > learns:
        raise ConfigError(
            f"training.sparsity_ramp: {training.sparsity_ramp} ({schedule.sparsity_ramp} steps) is longer than the "
            f"masker learns ({learns} steps), λ1 would never reach its value; shorten it"
        )


def learning_rate(optimiser: OptimiserConfig, step: int, start: int, end: int) -> float:
    """The rate at `step` for a network that trains from `start` to `end`: constant, or half a cosine to 0."""
    if optimiser.schedule == "constant" or end <= start:
        return optimiser.learning_rate
    share = min(max((step - start) / (end - start), 0.0), 1.0)
    return optimiser.learning_rate * (1 + math.cos(math.pi * share)) / 2
