"""launch/submit.py without a Slurm: on this machine, in this process, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from forked import Forked
from weights import assert_same_weights

from align_dist.cluster.jobs import submissions_of
from align_dist.config import RunConfig, to_yaml
from align_dist.runs.folder import RunFolder

CHECKOUT = Path(__file__).parents[2]
SUBMIT = str(CHECKOUT / "launch" / "submit.py")


@pytest.fixture
def description(squares: RunConfig, tmp_path: Path) -> Path:
    path = tmp_path / "the runs.yaml"
    distributed = squares.distributed.model_copy(update={"timeout": 60.0})
    training = squares.training.model_copy(update={"device": "cpu"})
    changed = {"runs": tmp_path / "my runs", "distributed": distributed, "training": training}
    path.write_text(to_yaml(squares.model_copy(update=changed)))
    return path


def start(description: Path, *options: str, **variables: str) -> Forked:
    """In a session of its own, as a shell starts it, with all that it starts on this machine."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), **variables}
    return Forked([SUBMIT, str(description), *options], environment, together=True, before=os.setsid)


def says(description: Path, *options: str, **variables: str) -> tuple[int, str]:
    process = start(description, *options, **variables)
    output = process.communicate(timeout=300)[0]
    return process.wait(), output


def test_on_this_machine_two_ranks_a_cell_one_cell_at_a_time(description: Path, tmp_path: Path) -> None:
    grid = ("--domains", "dark", "--methods", "erm,align", "--seeds", "0", "--cluster", "local", "--max-parallel", "1")
    code, output = says(description, *grid, "--nodes", "2")
    assert code == 0, output
    runs = sorted((tmp_path / "my runs").glob("*/folders-*"))
    assert [RunFolder(run).is_finished for run in runs] == [True, True]
    first, second = (submissions_of(run)[0] for run in runs)
    assert {first.cluster, second.cluster} == {"local"} and first.job != second.job
    assert (runs[0] / "done").stat().st_mtime != (runs[1] / "done").stat().st_mtime
    code, output = says(description, *grid, "--nodes", "2", "--collect")
    assert code == 0 and "Accuracy %" in output and "Missing" not in output


def test_cells_train_the_warmup_that_they_share_once(description: Path, tmp_path: Path) -> None:
    plain = ("align.lambda4=0", "--domains", "dark", "--methods", "erm,align", "--seeds", "0", "--cluster", "debug")
    code, output = says(description, *plain, "--share-warmup")
    assert code == 0, output
    code, output = says(description, f"runs={tmp_path / 'alone'}", *plain)
    assert code == 0, output
    (trunk,) = (tmp_path / "my runs").glob("*/warmups/*")
    assert len(json.loads((trunk / "environment.json").read_text())) == 1
    for run in (tmp_path / "alone").glob("*/folders-*"):
        assert_same_weights(run, next((tmp_path / "my runs").glob(f"*/{run.name}")))


def test_interrupted_it_lets_the_runs_save_and_goes_on_with_the_same_command(description: Path, tmp_path: Path) -> None:
    cell = ("--domains", "dark", "--methods", "align", "--seeds", "0", "--cluster", "local")
    grid = (*cell, "training.length=200 steps")
    process = start(description, *grid)
    for _ in range(1200):
        if list((tmp_path / "my runs").glob("*/folders-*/metrics.jsonl")):
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130, output
    (run,) = (tmp_path / "my runs").glob("*/folders-*")
    ending = RunFolder(run).ending()
    assert ending is not None and ending.exit_code == 75, output
    code, output = says(description, *grid)
    assert code == 0 and RunFolder(run).is_finished, output
    first, second = RunFolder(run).first_steps
    assert first == 0 < second


def test_in_this_process_a_failing_cell_is_one_line_and_the_exit_code_says_so(description: Path) -> None:
    grid = ("--domains", "dark", "--methods", "erm", "--seeds", "0", "--cluster", "debug", "--gpus-per-node", "0")
    code, output = says(description, *grid, "training.device=cuda")
    assert code == 1 and "Traceback" not in output, output
    assert "align-dist: training.device: " in output


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (("--seeds", "a"), 2, "--seeds: "),
        (("--nodes", "3"), 2, "data.batch_size: "),
        (("--collect",), 3, "--watch-only"),
        (("classifier.backbone=nonet",), 2, "nonet"),
    ],
)
def test_what_it_refuses_is_one_line(description: Path, options: tuple[str, ...], code: int, named: str) -> None:
    exit_code, text = says(description, *options)
    assert exit_code == code and named in text and text.count("\n") == 1, text


def test_without_slurm_a_plan_is_shown_and_nothing_submitted(description: Path, tmp_path: Path) -> None:
    (tmp_path / "no commands").mkdir()
    without = {"PATH": str(tmp_path / "no commands")}
    grid = ("--domains", "dark,bright", "--methods", "erm", "--seeds", "0", "--nodes", "2", "--minutes", "90")
    code, output = says(description, *grid, "--plan", "--cpus-per-task", "4", **without)
    assert code == 0 and "Traceback" not in output, output
    assert output.count("submit dark erm seed 0") == output.count("submit bright erm seed 0") == 1
    assert "24.0 CPU-hours" in output and "GPU" not in output, "2 jobs × 2 tasks × 4 CPUs × 1.5 hours"
    for line in ("--time=90", "--nodes=2", "--cpus-per-task=4", "--array=0-1%2"):
        assert f"\n#SBATCH {line}\n" in output
    _, output = says(description, *grid, "--plan", "--tasks-per-node", "2", "--gpus-per-node", "2", **without)
    assert "12.0 GPU-hours" in output and "CPU" not in output, "2 jobs × 2 nodes × 2 GPUs × 1.5 hours"
    assert not (tmp_path / "my runs").exists(), "a plan makes nothing"
    code, output = says(description, *grid, **without)
    assert code == 5 and output.count("\n") == 1 and "srun" in output, output
    assert not list((tmp_path / "my runs").glob("*/folders-*"))
