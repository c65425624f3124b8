"""Repeated evaluation: of whole runs alone, and of no run that trains."""

from __future__ import annotations

import shutil
from pathlib import Path

from refusals import raises

from align_dist.config import RunConfig
from align_dist.data.prepare import prepare
from align_dist.errors import CheckpointError
from align_dist.evaluation.reevaluate import reevaluate_run
from align_dist.run import train_run
from align_dist.runs.folder import RunFolder


def quiet(_line: str) -> None: ...


def test_an_interrupted_run_is_not_measured_and_goes_on(squares: RunConfig, tmp_path: Path) -> None:
    whole = squares.model_copy(update={"runs": tmp_path})
    training = squares.training.model_copy(update={"until": "18 steps"})
    folder = train_run(whole.model_copy(update={"training": training}), quiet)
    assert list(folder.selected.glob("*.pt")), "chosen so far"
    with raises(CheckpointError, folder.path, "align-dist train"):
        reevaluate_run(folder.path, None, ["evaluation.selections=[validation]"])
    assert not folder.is_finished
    assert train_run(whole, quiet).trained_steps() is not None


def test_two_benchmarks_of_folders_have_results_of_their_own(squares: RunConfig, tmp_path: Path) -> None:
    folder = train_run(squares.model_copy(update={"runs": tmp_path / "runs", "method": "erm"}), quiet)
    others = []
    for number in range(2):
        root = Path(shutil.copytree(squares.benchmark.root, tmp_path / f"images{number}"))
        sorted(root.glob("*/*/*.png"))[number].unlink()
        update = {"root": root, "masks": None, "betons": tmp_path / f"betons{number}", "fingerprint": None}
        other = squares.benchmark.model_copy(update=update)
        prepare(other)
        others.append(reevaluate_run(folder.path, other))
    assert others[0] != others[1] and all(path.is_file() for path in others)


def test_a_run_that_another_process_trains_is_left_alone(squares: RunConfig, tmp_path: Path) -> None:
    folder = train_run(squares.model_copy(update={"runs": tmp_path, "method": "erm"}), quiet)
    with RunFolder(folder.path).locked(), raises(CheckpointError, folder.path, "another process"):
        reevaluate_run(folder.path, None)
