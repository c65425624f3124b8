"""The batch scripts on a real Slurm of two nodes: equal to ranks started by hand, through all that stops a job."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_slurm import (
    CHECKOUT,
    local_cluster,
    output_of,
    recorded,
    restarts_of,
    sbatch,
    state_of,
    text_of,
    wait_for_state,
    wait_for_step,
    wait_until,
)
from ranks import described
from weights import assert_same_weights

from align_dist.config import RunConfig
from align_dist.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("slurm")


@dataclass(frozen=True)
class Job:
    """A training job: its number, its run's folder, the file of what it said."""

    number: str
    folder: Path
    output: Path

    def finished(self) -> str:
        """What it said, at its good end."""
        wait_for_state(self.number, "COMPLETED", output=self.output)
        return self.output.read_text()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in a folder whose name needs quoting."""
    path = tmp_path_factory.mktemp("check") / """a "quoted" user's $HOME"""
    path.mkdir()
    (path / "slurm").symlink_to(CHECKOUT / "slurm")
    (path / ".venv").symlink_to(sys.prefix)
    return path


def submitted(checkout: Path, squares: RunConfig, name: str, *options: str, overrides: tuple[str, ...] = ()) -> Job:
    """A job of two nodes, a task each."""
    config = described(squares, checkout / name)
    output = checkout / name / "said.txt"
    of_job = ("--nodes=2", f"--output={output}", *options)
    number = sbatch(*of_job, "slurm/train.sbatch", f"{name}/run.yaml", *overrides, cwd=checkout)
    return Job(number, config.folder, output)


def test_two_nodes_train_what_two_ranks_started_by_hand_do(checkout: Path, patient: RunConfig, by_hand: Path) -> None:
    runs = checkout / """Ann's "best" runs"""
    job = submitted(checkout, patient, "two nodes", overrides=(f"runs={runs}",))
    output = job.finished()
    folder = runs / job.folder.relative_to(checkout / "two nodes" / "runs")
    assert str(folder) in output and not job.folder.exists()
    assert json.loads(RunFolder(folder).environment.read_text())[0]["ranks"] == 2
    assert_same_weights(folder, by_hand)


def test_a_signal_an_urgent_job_and_a_node_without_power_requeue_a_job_and_cost_nothing(
    checkout: Path, patient: RunConfig, by_hand: Path, slurm: Path
) -> None:
    """One job through all three: each start costs the test ten seconds of imports."""
    job = submitted(checkout, patient, "requeued", "--partition=low")
    wait_for_step(job.folder, 4, job.output)
    output_of("scancel", "--signal=USR2", job.number)

    wait_until(lambda: restarts_of(job.number) == 1, 60, lambda: text_of(job.output))
    wait_for_step(job.folder, saved_at(job) + 4, job.output)
    assert restarts_of(job.number) == 1 and text_of(job.output).count("SIGUSR2: saved at step") == 1
    of_urgent = ("--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait_for_state(sbatch(*of_urgent, cwd=checkout), "COMPLETED")

    wait_until(lambda: restarts_of(job.number) == 2, 60, lambda: text_of(job.output))
    wait_for_step(job.folder, saved_at(job) + 4, job.output)
    assert restarts_of(job.number) == 2 and text_of(job.output).count("SIGUSR2: saved at step") == 2
    for verb in ("node-kill", "node-start"):
        process = local_cluster(verb, "node2", "--dir", slurm)
        assert process.returncode == 0, process.stderr

    output = job.finished()
    assert RunFolder(job.folder).first_steps[0] == 0 and all(RunFolder(job.folder).first_steps[1:])
    assert len(RunFolder(job.folder).first_steps) == 4 and output.count("saved at step") == 2
    assert restarts_of(job.number) == 3
    assert_same_weights(job.folder, by_hand)


def saved_at(job: Job) -> int:
    """The step of its latest save: only a later one is trained by the start after it."""
    return int(re.findall(r"saved at step (\d+)", text_of(job.output))[-1])


def test_a_cancelled_job_saves_and_stays_ended_and_the_same_sbatch_goes_on_past_its_time_limit(
    checkout: Path, patient: RunConfig, by_hand: Path
) -> None:
    job = submitted(checkout, patient, "cancelled")
    wait_for_step(job.folder, 8, job.output)
    output_of("scancel", job.number)
    wait_for_state(job.number, "CANCELLED", output=job.output)
    steps = recorded(job.number)
    assert steps[job.number][0] == "CANCELLED" and steps[f"{job.number}.0"] == ("FAILED", "75:0")
    ending = RunFolder(job.folder).ending()
    assert ending is not None and ending.exit_code == 75 and restarts_of(job.number) == 0, text_of(job.output)

    # A minute is less than the grace: it leaves after one step, and more time is given while it waits. Slurm's own
    # signal, at any moment of its first half minute, is one that nobody listens to.
    second = submitted(checkout, patient, "cancelled", "--time=1", "--signal=URG@1")
    wait_until(lambda: restarts_of(second.number) >= 1, 60, lambda: text_of(second.output))
    output_of("scontrol", "update", f"JobId={second.number}", "TimeLimit=10")
    assert "time limit: saved at step" in second.finished()
    assert_same_weights(second.folder, by_hand)
    assert (state_of(job.number), restarts_of(job.number)) == ("CANCELLED", 0)


def test_an_array_trains_each_domain_and_requeues_only_the_task_that_was_told(
    checkout: Path, squares: RunConfig
) -> None:
    """The last task of an array has the array's own job id: its requeue must not be all the tasks'."""
    described(squares, checkout / "array")
    shorter = ("training.length=12 steps", "training.warmup=4 steps")
    array = sbatch(
        *("--array=0-1", f"--output={checkout}/array/%a.txt", "slurm/domains.sbatch"),
        *("protocol.source=dark,bright", "array/run.yaml", *shorter),
        cwd=checkout,
    )
    runs = checkout / "array" / "runs"
    wait_until(lambda: bool(list(runs.rglob("*-bright-*/metrics.jsonl"))), 60, lambda: f"{list(runs.rglob('*'))}")
    assert [_number_of(f"{array}_{index}") == array for index in range(2)] == [False, True]
    output_of("scancel", "--signal=USR2", f"{array}_1")
    for index in range(2):
        wait_for_state(f"{array}_{index}", "COMPLETED", output=checkout / "array" / f"{index}.txt")
    assert [restarts_of(f"{array}_{index}") for index in range(2)] == [0, 1]
    assert {mark.parent.name.split("-")[1] for mark in runs.rglob("done")} == {"dark", "bright"}


def _number_of(task: str) -> str:
    return output_of("squeue", "--noheader", "--states=all", "--format=%A", f"--jobs={task}")


def test_a_run_that_cannot_be_fails_the_job_with_its_exit_code_and_one_line(checkout: Path, squares: RunConfig) -> None:
    job = submitted(checkout, squares, "wrong", "--nodes=1", overrides=("training.lenght=3",))
    assert wait_for_state(job.number, "FAILED") == "FAILED"
    assert recorded(job.number)[job.number] == ("FAILED", "2:0")
    (line,) = [line for line in job.output.read_text().splitlines() if not line.startswith("srun: ")]
    assert line.startswith("align-dist: ") and "training.length" in line


@pytest.mark.parametrize(
    ("script", "options", "arguments", "expected"),
    [
        ("train", [], ["run.yaml"], "run sbatch in the checkout's folder"),
        ("domains", ["--array=2"], ["protocol.source=bright,dark", "run.yaml"], "use sbatch --array=0-1"),
        ("domains", [], ["protocol.source=bright,dark", "run.yaml"], "use sbatch --array=0-1"),
        ("domains", ["--array=0"], ["run.yaml"], "takes KEY=VALUE,VALUE... CONFIG"),
    ],
    ids=["elsewhere", "index", "no array", "no values"],
)
def test_a_wrong_call_is_one_line(
    checkout: Path, tmp_path: Path, script: str, options: list[str], arguments: list[str], expected: str
) -> None:
    output = tmp_path / "said.txt"
    where = tmp_path if expected.startswith("run sbatch") else checkout
    job = sbatch(f"--output={output}", *options, CHECKOUT / "slurm" / f"{script}.sbatch", *arguments, cwd=where)
    name = f"{job}_{options[0].removeprefix('--array=')}" if options else job
    wait_for_state(name, "FAILED", output=output)
    (line,) = output.read_text().splitlines()
    assert expected in line
