"""launch/submit.py on a real Slurm of two nodes: a grid is run once, whatever happens to its jobs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from local_slurm import (
    CHECKOUT,
    local_cluster,
    output_of,
    restarts_of,
    state_of,
    wait_for_state,
    wait_for_step,
    wait_until,
)
from weights import assert_same_weights

from align_dist.cluster.jobs import submissions_of
from align_dist.config import RunConfig, load_config, to_yaml
from align_dist.report.tables import SELECTIONS
from align_dist.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("slurm")
SECRET = "hunter2-0123456789"


class Study:
    """A description in a folder whose name needs quoting, and what submit.py says about it. Each its own experiment."""

    def __init__(self, config: RunConfig, folder: Path, experiment: str, **distributed: float) -> None:
        self.folder = folder
        self.description = folder / f"{experiment}.yaml"
        training = config.training.model_copy(update={"device": "cpu"})
        changed = {"runs": Path("""Ann's "best" runs"""), "experiment": experiment, "training": training}
        waiting = config.distributed.model_copy(update={"timeout": 60.0, **distributed})
        self.description.write_text(to_yaml(config.model_copy(update={**changed, "distributed": waiting})))
        self.experiment = folder / """Ann's "best" runs""" / experiment

    def command(self, *options: str) -> list[str]:
        script = CHECKOUT / "launch" / "submit.py"
        of_cells = ("--domains", "bright", "--methods", "align", "--seeds", "0", "--nodes", "2", "--hours", "1")
        return [sys.executable, str(script), self.description.name, *of_cells, *options]

    def start(self, *options: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "WANDB_API_KEY": SECRET}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(self.command(*options), cwd=self.folder, env=environment, text=True, **pipes)

    def says(self, *options: str, code: int = 0) -> str:
        process = self.start(*options)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == code, output
        return output

    def run(self, name: str = "bright-align") -> Path:
        (folder,) = self.experiment.glob(f"*{name}-*")
        return folder

    def job(self, name: str = "bright-align") -> str:
        return submissions_of(self.run(name))[-1].job

    def log(self, name: str = "bright-align") -> Path:
        return Path(submissions_of(self.run(name))[-1].log)

    def wait_for_step(self, step: int) -> None:
        wait_for_state(self.job(), "RUNNING", output=self.log())
        wait_for_step(self.run(), step, self.log())

    def finished(self) -> None:
        wait_for_state(self.job(), "COMPLETED", output=self.log())
        assert "1 finished" in self.says()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("submit") / "the user's $HOME"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def undisturbed(place: Path, squares: RunConfig) -> tuple[Study, str]:
    """A grid of two domains and two methods, submitted by two people at once, and its plan from before."""
    study = Study(squares, place, "grid")
    grid = ("--domains", "all", "--methods", "erm,align", "--max-parallel", "2")
    plan = study.says(*grid, "--plan")
    both = [study.start(*grid) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(int(re.findall(r"submit: (\d) jobs submitted", text)[0]) for text in outputs) == [0, 4]
    for method in ("erm", "align"):
        for domain in ("bright", "dark"):
            wait_for_state(study.job(f"{domain}-{method}"), "COMPLETED", output=study.log(f"{domain}-{method}"))
    return study, plan


def test_a_grid_is_run_once_and_as_it_was_planned(undisturbed: tuple[Study, str]) -> None:
    study, plan = undisturbed
    assert "4 of 4 cells would be submitted" in plan and plan.count("\nsubmit ") == 3
    number = study.job().split("_")[0]
    submitted = (study.experiment / "jobs" / f"{number}_submission.sh").read_text()
    assert submitted in plan and "--array=0-3%2" in submitted
    for folder in study.experiment.glob("folders-*"):
        assert json.loads((folder / "environment.json").read_text())[0]["ranks"] == 2
        assert (folder / "done").exists() and len(submissions_of(folder)) == 1
    study.says("--domains", "all", "--methods", "erm,align")
    assert [len(submissions_of(folder)) for folder in study.experiment.glob("folders-*")] == [1] * 4


def test_the_tables_of_a_grid_mark_what_is_missing(undisturbed: tuple[Study, str]) -> None:
    study, _ = undisturbed
    grid = ("--domains", "all", "--methods", "erm,align", "--seeds", "0:2", "--collect", "--format")
    text = study.says(*grid, "text")
    assert "bright erm seed 1" in text
    assert all(SELECTIONS[name] in text for name in ("validation", "last", "oracle"))
    assert r"\begin{tabular}" in study.says(*grid, "latex")
    assert "| method | seeds | bright | dark | mean |" in study.says(*grid, "markdown")
    assert re.search("^method,seeds,.*bright.*,dark.*,mean", study.says(*grid, "csv"), re.MULTILINE)


def test_nothing_secret_lands_in_a_run_folder(undisturbed: tuple[Study, str]) -> None:
    study, _ = undisturbed
    files = [path for path in study.experiment.rglob("*") if path.is_file()]
    assert len(files) > 40
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_preempted_and_without_power_a_job_comes_back_to_the_same_weights(
    patient: RunConfig, by_hand: Path, place: Path, slurm: Path
) -> None:
    """One job through both: each start costs the test ten seconds of imports."""
    study = Study(patient, place, "preempted")
    study.says("--partition", "low")
    study.wait_for_step(8)
    urgent = output_of("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null",
                  "--wrap=sleep 1")  # fmt: skip
    wait_for_state(urgent, "COMPLETED")
    wait_until(lambda: restarts_of(study.job()) == 1, 60, lambda: state_of(study.job()))
    saved = re.findall(r"SIGUSR2: saved at step (\d+)", study.log().read_text())
    assert len(saved) == 1
    study.wait_for_step(int(saved[0]) + 4)
    assert local_cluster("node-kill", "node2", "--dir", slurm).returncode == 0
    assert local_cluster("node-start", "node2", "--dir", slurm).returncode == 0
    wait_until(lambda: restarts_of(study.job()) == 2, 60, lambda: state_of(study.job()))
    study.finished()
    first, *others = RunFolder(study.run()).first_steps
    assert first == 0 and len(others) == 2 and all(others)
    assert_same_weights(study.run(), by_hand)


def test_a_job_that_nears_its_time_limit_saves_and_goes_on_in_another(patient: RunConfig, place: Path) -> None:
    """The weights after such a stop are the business of the test before: it is the same signal."""
    endless = patient.training.model_copy(update={"length": "100000 steps"})
    study = Study(patient.model_copy(update={"training": endless}), place, "limited")
    study.says()
    study.wait_for_step(8)
    first = study.job()
    assert "1 running" in study.says() and study.job() == first
    # A minute is over soon, and the job wants to know two before: Slurm, which looks twice a minute, tells it.
    output_of("scontrol", "update", f"jobid={study.job()}", "timelimit=1")
    wait_until(lambda: restarts_of(study.job()) == 1, 90, lambda: state_of(study.job()))
    output_of("scontrol", "update", f"jobid={study.job()}", "timelimit=60")
    (saved,) = re.findall(r"SIGUSR2: saved at step (\d+)", study.log().read_text())
    study.wait_for_step(int(saved) + 2)
    assert RunFolder(study.run()).first_steps == [0, int(saved)]
    output_of("scancel", study.job())


def test_cancelled_and_submitted_again_it_goes_on_where_it_saved(
    patient: RunConfig, by_hand: Path, place: Path
) -> None:
    study = Study(patient, place, "cancelled")
    study.says()
    study.wait_for_step(8)
    first = study.job()
    output_of("scancel", first)
    wait_for_state(first, "CANCELLED")
    assert "SIGTERM: saved at step" in study.says("--watch-only")
    study.says()
    assert study.job() != first
    study.finished()
    first, second = RunFolder(study.run()).first_steps
    assert first == 0 and second >= 8
    assert_same_weights(study.run(), by_hand)


def test_a_failed_cell_is_shown_with_its_last_lines_and_left_until_retry(squares: RunConfig, place: Path) -> None:
    study = Study(squares, place, "failing")
    on_cuda = load_config(study.description).training.model_copy(update={"device": "cuda"})
    study.description.write_text(to_yaml(load_config(study.description).model_copy(update={"training": on_cuda})))
    study.says("--gpus-per-node", "0")
    wait_for_state(study.job(), "FAILED")
    first = study.job()
    output = study.says("--gpus-per-node", "0", code=1)
    assert re.search(r"\bfailed\b", output) and "training.device: " in output
    assert "Traceback" not in study.log().read_text()
    assert study.job() == first
    dependent = Study(squares, place, "dependent")
    dependent.says("--dependency", f"afterok:{first}")
    wait_until(lambda: state_of(dependent.job()) == "CANCELLED", 60, lambda: state_of(dependent.job()))
    assert "cancelled before it began" in dependent.says("--watch-only")
    study.says("--gpus-per-node", "0", "--retry")
    wait_for_state(study.job(), "FAILED")
    assert study.job() != first


def test_a_job_refuses_code_that_it_was_not_submitted_with(squares: RunConfig, place: Path) -> None:
    study = Study(squares, place, "changed")
    copy = place / "code"
    (copy / "launch").mkdir(parents=True)
    subprocess.run(["cp", "-r", str(CHECKOUT / "align_dist"), str(copy)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    hold = ("--sbatch", "hold")
    subprocess.run(study.command(*hold), cwd=place, env=environment, check=True, capture_output=True)
    with (copy / "align_dist" / "objectives.py").open("a") as file:
        file.write("# a change of mind\n")
    output_of("scontrol", "release", study.job())
    wait_for_state(study.job(), "FAILED")
    assert str(copy / "align_dist") in study.log().read_text()
    assert not (study.run() / "config.yaml").exists()


@pytest.mark.parametrize("option", [("--partition", "nowhere"), ("--nodes", "3")])
def test_what_slurm_or_the_batch_cannot_take_is_one_line(
    squares: RunConfig, place: Path, option: tuple[str, str]
) -> None:
    study = Study(squares, place, "refused")
    output = study.says(*option, code=5 if option[0] == "--partition" else 2)
    assert output.count("\n") == 1 and output.startswith("align-dist: "), output
    assert not list(study.experiment.glob("folders-*"))
