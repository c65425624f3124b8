"""`align-dist status` on folders that runs, grids and searches leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from align_dist.config import RunConfig
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import IMAGES_PER_SECOND, VALIDATION_ACCURACY, write_metrics

COMMAND = [sys.executable, "-m", "align_dist.cli", "status"]
HOLDER = Path(__file__).parent / "runs" / "held.py"


def status(*arguments: str | Path, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment, timeout=60
    )


def start_run(config: RunConfig, seed: int, experiment: str) -> RunFolder:
    config = config.model_copy(update={"seed": seed, "experiment": experiment})
    folder = RunFolder(config.folder)
    folder.begin(config)
    for step, accuracy in ((8, 0.5), (16, 0.75)):
        write_metrics(folder.metrics, step, step / 4, {IMAGES_PER_SECOND: 64.0, VALIDATION_ACCURACY: accuracy})
    return folder


@pytest.fixture(scope="module")
def runs(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Of one grid a finished, a failed and a lost run, of one search a trial that a scheduler has stopped."""
    config = squares.model_copy(update={"runs": tmp_path_factory.mktemp("runs")})
    words = {"finished": "grid", "failed": "grid", "interrupted": "grid", "stopped": "search"}
    folders = {word: start_run(config, seed, experiment) for seed, (word, experiment) in enumerate(words.items())}
    folders["finished"].write_results([])
    folders["failed"].record_ending(6, "classifier/loss is not finite")
    RunFolder(folders["stopped"].path).stop("at rung 2")
    return folders


@pytest.fixture(scope="module")
def place(runs: dict[str, RunFolder]) -> Path:
    return runs["finished"].path.parents[1]


@pytest.fixture
def holder(runs: dict[str, RunFolder]) -> Iterator[subprocess.Popen[str]]:
    """A process that trains the interrupted run."""
    command = [sys.executable, str(HOLDER), str(runs["interrupted"].path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process


def test_a_json_line_for_each_run(runs: dict[str, RunFolder], place: Path) -> None:
    rows = [json.loads(line) for line in status(place, "--json").stdout.splitlines()]
    states = {Path(run["folder"]): run["state"] for run in rows}
    assert states == {folder.path: word for word, folder in runs.items()}
    reasons = {run["state"]: run["reason"] for run in rows}
    assert (reasons["failed"], reasons["stopped"]) == ("classifier/loss is not finite", "at rung 2")
    for run in rows:
        assert (run["step"], run["epoch"], run["length"], run["images_per_second"]) == (16, 4.0, "24 steps", 64.0)
        assert (run["validation_accuracy"], run["validation_history"]) == (0.75, [[8, 0.5], [16, 0.75]])
        assert run["seconds_left"] is None


def test_a_row_for_each_run_in_what_letters_the_terminal_has(runs: dict[str, RunFolder], place: Path) -> None:
    for encoding, history in (("utf-8", "▁█"), ("ascii", "_#")):
        rows = [line.split() for line in status(place, encoding=encoding).stdout.splitlines()[2:]]
        assert {row[0]: row[1] for row in rows} == {
            str(folder.path.relative_to(place)): word for word, folder in runs.items()
        }
        assert all(row[2:6] == ["16/24", "steps", "75.0%", history] for row in rows)


def test_a_run_is_running_while_a_process_holds_it_and_watched_until_then(
    runs: dict[str, RunFolder], place: Path, holder: subprocess.Popen[str]
) -> None:
    lost = runs["interrupted"].path
    (row,) = [json.loads(line) for line in status(lost, "--json").stdout.splitlines()]
    assert row["state"] == "running"
    assert row["seconds_left"] == pytest.approx((24 - 16) * 8 / 64)
    with subprocess.Popen([*COMMAND, str(place), "--watch"], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert "1 running" in watching.stdout.readline()
        assert holder.stdin is not None
        holder.stdin.close()
        output = watching.stdout.read()
    assert watching.returncode == 0
    assert "1 interrupted" in output and "running" not in output.partition("1 interrupted")[2]


def test_a_folder_without_a_run_is_one_line_and_its_exit_code(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        finished = status(folder)
        assert finished.returncode == 4 and not finished.stdout
        assert finished.stderr.count("\n") == 1 and str(folder) in finished.stderr
