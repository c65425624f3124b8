"""A trial's process, as Ray starts it and without Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from refusals import raises
from searches import workers, write_search

from align_dist.config import RunConfig
from align_dist.errors import MachineError
from align_dist.parallel.ranks import Ranks, find_ranks
from align_dist.runs.folder import RunFolder
from align_dist.search.config import SearchConfig
from align_dist.search.sampler import TrialSampler
from align_dist.search.trainable import TrialLost, TrialTask, TrialTrainable, environment_of
from align_dist.search.trials import mark_begun
from align_dist.search.tuner import check_room
from align_dist.training_plan import schedule_of

PARENT = """
import sys, time
from pathlib import Path
from align_dist.parallel.ranks import Ranks
from align_dist.search.trainable import TrialTask, process_of
task = TrialTask(Path(sys.argv[1]), tuple(sys.argv[2:]), "", None, type("Search", (), {"cpus_per_trial": 1}))
with process_of(task, Ranks()):
    time.sleep(600)
"""


@pytest.fixture
def task(squares: RunConfig, tmp_path: Path) -> TrialTask:
    """Of a trial of 16 steps with a validation every fourth; ten are warm-up."""
    space = {"align.lambda1": {"loguniform": [0.5, 8.0]}}
    _, search = write_search(squares, tmp_path, space=space, samples=1)
    (trial,) = TrialSampler(search).trials
    mark_begun(trial, search.objective)
    arguments = (str(trial.folder / "trial.yaml"), "--sources-only", "--share-warmup")
    return TrialTask(trial.folder, arguments, os.getcwd(), schedule_of(trial.config), search)


def test_a_step_is_a_validation_since_guidance_and_an_end_is_said(task: TrialTask) -> None:
    trainable = TrialTrainable({"task": task})
    results = [trainable.train() for _ in range(3)]
    trainable.stop()
    assert [result.get("validations") for result in results] == [1, 2, None] and results[-1]["done"]
    assert [(result["step"], result["is_last"]) for result in results[:2]] == [(12, 0), (16, 1)]
    assert RunFolder(task.folder).trained_steps() is not None
    second = TrialTrainable({"task": task})  # of a trial that is finished nothing is trained again
    assert [second.train().get("step") for _ in range(3)] == [12, 16, None]


def test_what_a_process_cannot_put_on_record_is_there_with_its_reason(task: TrialTask) -> None:
    (task.folder / "trial.yaml").write_text("training: {lenght: 3}\n")
    trainable = TrialTrainable({"task": task})
    assert trainable.train()["done"]
    ending = RunFolder(task.folder).ending()
    assert ending is not None and ending.exit_code == 2 and "training.lenght" in ending.reason


def test_a_killed_process_is_worth_another_start(task: TrialTask) -> None:
    trainable = TrialTrainable({"task": task})
    (process,) = workers(task.folder)
    process.kill()
    with raises(TrialLost, task.folder, -signal.SIGKILL):
        trainable.train()


def test_a_process_whose_parent_is_killed_saves_and_leaves(task: TrialTask) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(task.folder), *task.arguments])
    _wait(lambda: RunFolder(task.folder).first_steps)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait(lambda: not workers(task.folder))
    ending = RunFolder(task.folder).ending()
    assert ending is not None and ending.exit_code == 75 and ending.reason.startswith("SIGTERM")


def _wait(condition: Any) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_trial_is_no_rank_of_the_launcher_around_ray() -> None:
    around = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "RANK": "1", "HOME": "/root"}
    alone = environment_of(around, Ranks(), threads=3)
    assert find_ranks(alone) == Ranks() and alone["HOME"] == "/root" and alone["OMP_NUM_THREADS"] == "3"
    ranks = Ranks(1, 2, 0, 1, "127.0.0.1", 4567, "torchrun")
    assert find_ranks(environment_of(around, ranks, threads=1)) == ranks


@pytest.mark.parametrize(
    ("cpus", "gpus", "ranks", "trials"),
    [
        (1, 0, 1, 9),
        (2, 0, 1, 4),
        (2, 0, 2, 2),
        (4, 0, 1, 1),
        (1, 1, 1, 3),
        (4, 1, 1, 1),
        (1, 0.5, 1, 6),
        (1, 0.5, 4, 1),
    ],
)
def test_a_rank_is_never_over_two_machines(
    squares: RunConfig, tmp_path: Path, cpus: float, gpus: float, ranks: int, trials: int
) -> None:
    search = resources(squares, tmp_path, cpus, gpus, ranks)
    assert check_room(search, [{"CPU": 6.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 1.0}]) == trials


def test_a_trial_that_no_machine_holds_is_refused_in_one_line(squares: RunConfig, tmp_path: Path) -> None:
    search = resources(squares, tmp_path, 8, 1, 1)
    with raises(MachineError, "8 CPUs, 1 GPUs", "6 CPUs and 0 GPUs", "cpus_per_trial"):
        check_room(search, [{"CPU": 6.0}])


def resources(squares: RunConfig, path: Path, cpus: float, gpus: float, ranks: int) -> SearchConfig:
    space = {"align.lambda1": {"loguniform": [0.5, 8.0]}}
    wanted = {"cpus_per_trial": cpus, "gpus_per_trial": gpus, "ranks_per_trial": ranks}
    return write_search(squares, path, space=space, **wanted)[1]
