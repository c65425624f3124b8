"""How far a run is, read from the folder that a run writes, damaged lines and all."""

from __future__ import annotations

from pathlib import Path

import pytest

from align_dist.config import RunConfig
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import IMAGES_PER_SECOND, VALIDATION_ACCURACY, write_metrics
from align_dist.runs.progress import progress_of

# Two lines of a step, one of an earlier start that went on from before it.
TOLD = ((4, 1.0, 0.25), (8, 2.0, 0.5), (12, 3.0, 0.75), (8, 2.0, 0.625))


def start_run(config: RunConfig, tmp_path: Path, length: str = "24 steps") -> RunFolder:
    training = config.training.model_copy(update={"length": length})
    folder = RunFolder(tmp_path / "run")
    folder.begin(config.model_copy(update={"training": training}))
    return folder


def test_a_run_that_has_told_nothing_yet(squares: RunConfig, tmp_path: Path) -> None:
    assert str(progress_of(tmp_path / "nowhere")) == ""
    progress = progress_of(start_run(squares, tmp_path).path)
    assert str(progress) == "0/24 steps"
    assert (progress.images_per_second, progress.seconds_left, progress.accuracy) == (None, None, None)


@pytest.mark.parametrize(
    ("length", "shown", "steps"), [("24 steps", "10/24 steps", 24), ("6 epochs", "2.5/6 epochs", 24)]
)
def test_how_far_and_how_fast(squares: RunConfig, tmp_path: Path, length: str, shown: str, steps: int) -> None:
    folder = start_run(squares, tmp_path, length)
    write_metrics(folder.metrics, 6, 1.5, {IMAGES_PER_SECOND: 16.0})
    write_metrics(folder.metrics, 10, 2.5, {VALIDATION_ACCURACY: 0.5})
    with folder.metrics.open("ab") as file:
        file.write(b'9\n{"step": null, "epoch": 3.0}\n{"step": 9}\n\xff\xfe\n{"step": 9, "epo')
    progress = progress_of(folder.path)
    assert str(progress) == shown
    assert progress.images_per_second == 16.0
    assert progress.seconds_left == pytest.approx((steps - 10) * squares.data.batch_size / 16)


def test_the_history_is_by_step_and_a_step_told_twice_keeps_the_last(squares: RunConfig, tmp_path: Path) -> None:
    folder = start_run(squares, tmp_path)
    for step, epoch, accuracy in TOLD:
        write_metrics(folder.metrics, step, epoch, {VALIDATION_ACCURACY: accuracy, "mask/area": 0.1})
        write_metrics(folder.metrics, step + 1, epoch, {"mask/area": 0.2})
    progress = progress_of(folder.path)
    assert list(progress.accuracies.items()) == [(4, 0.25), (8, 0.625), (12, 0.75)]
    assert progress.accuracy == 0.75


def test_a_description_that_cannot_be_read_takes_the_length_alone(squares: RunConfig, tmp_path: Path) -> None:
    folder = start_run(squares, tmp_path)
    write_metrics(folder.metrics, 6, 1.5, {VALIDATION_ACCURACY: 0.5, IMAGES_PER_SECOND: 16.0})
    folder.description.write_text("of: another version\n")
    progress = progress_of(folder.path)
    assert str(progress) == "6 steps"
    assert (progress.accuracy, progress.images_per_second, progress.seconds_left) == (0.5, 16.0, None)
