"""Progress, speed and accuracy of a run so far, read from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from align_dist.config import RunConfig, load_config
from align_dist.errors import UserError
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import IMAGES_PER_SECOND, VALIDATION_ACCURACY, Series, latest_metrics, read_scalar
from align_dist.schema.values import Duration, to_steps


@dataclass(frozen=True)
class Progress:
    """A run's progress as its metrics tell it; step and epoch are 0 before the first line.

    length: of the run, None where its description cannot be read. seconds_left: of training, at the latest speed.
    accuracies: on the source domains' validation part, in [0, 1], by step.
    """

    step: int
    epoch: float
    length: Duration | None
    images_per_second: float | None
    seconds_left: float | None
    accuracies: Series

    @property
    def accuracy(self) -> float | None:
        """The latest validation's."""
        return list(self.accuracies.values())[-1] if self.accuracies else None

    def __str__(self) -> str:
        """Such as `2.9/7 epochs`, `140/600 steps`; nothing while there is nothing to tell."""
        if self.length is None:
            return f"{self.step} steps" if self.step else ""
        position = f"{self.epoch:.1f}" if self.length.endswith("epochs") else str(self.step)
        return f"{position}/{self.length}"


def progress_of(path: Path) -> Progress:
    """The progress of the run in a folder; an unreadable description or line of metrics takes nothing else away."""
    folder = RunFolder(path)
    latest = latest_metrics(folder.metrics)
    rates = [rate for record in latest if (rate := record.values.get(IMAGES_PER_SECOND))]
    step, epoch = (latest[-1].step, latest[-1].epoch) if latest else (0, 0.0)
    config, rate = _description_of(folder), rates[-1] if rates else None
    left = _seconds_left(config, step, epoch, rate) if config and rate and epoch else None
    length = config.training.length if config else None
    return Progress(step, epoch, length, rate, left, read_scalar(folder.metrics, VALIDATION_ACCURACY))


def _seconds_left(config: RunConfig, step: int, epoch: float, images_per_second: float) -> float:
    steps = to_steps(config.training.length, step / epoch) - step
    return max(steps, 0) * config.data.batch_size / images_per_second


def _description_of(folder: RunFolder) -> RunConfig | None:
    try:
        return _load(folder.description, folder.description.stat().st_mtime_ns)
    except (OSError, UserError):
        return None


@lru_cache(maxsize=1000)
def _load(description: Path, _written: int) -> RunConfig:
    """Kept while the file is the same: who watches a hundred runs reads a hundred descriptions every few seconds."""
    return load_config(description)
