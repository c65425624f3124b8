"""Where a cell stands is read from its folder and the queue alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from align_dist.cluster.jobs import Submission, record_submission, submissions_of
from align_dist.cluster.queue import QueuedJob, parse_queue, read_queue
from align_dist.cluster.states import CellStatus, cell_status
from align_dist.cluster.submission import to_submit
from align_dist.config import EvaluationConfig, RunConfig, to_yaml
from align_dist.errors import LostRankError
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State, status_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def submitted(folder: Path, job: str = "12_3", log: str = "") -> Submission:
    submission = Submission("slurm", job, log or str(folder / "no.log"), "c0de", "abc", time.time())
    record_submission(folder, submission)
    return submission


def state(folder: Path, queue: dict[tuple[str, str], QueuedJob] | None = None) -> tuple[State, str]:
    status = cell_status(folder, submissions_of(folder), queue or {}, EvaluationConfig())
    return status.state, status.reason


def start_run(folder: Path, config: RunConfig) -> RunFolder:
    run = RunFolder(folder)
    run.begin(config)
    return run


def test_nothing_there_is_new(folder: Path) -> None:
    assert state(folder) == (State.NEW, "")


def test_the_queue_says_waiting_and_running(folder: Path) -> None:
    submitted(folder)
    assert state(folder, {("slurm", "12_3"): QueuedJob(True, "Priority")}) == (State.WAITING, "Priority")
    assert state(folder, {("slurm", "12_3"): QueuedJob(False)}) == (State.RUNNING, "")


def test_a_requeued_job_waits_though_its_last_start_stopped(folder: Path, squares: RunConfig) -> None:
    start_run(folder, squares).record_ending(75, "SIGUSR2: saved")
    submitted(folder)
    assert state(folder, {("slurm", "12_3"): QueuedJob(True)})[0] is State.WAITING
    assert state(folder) == (State.INTERRUPTED, "SIGUSR2: saved")


def test_only_the_latest_submission_counts(folder: Path) -> None:
    submitted(folder, "1")
    submitted(folder, "2", str(folder.with_suffix(".log")))
    folder.with_suffix(".log").write_text("align-dist: nothing to eat\n\n")
    assert state(folder, {("slurm", "1"): QueuedJob(False)}) == (State.FAILED, "align-dist: nothing to eat")


def test_done_wins_over_everything_where_it_was_measured_as_asked(folder: Path, squares: RunConfig) -> None:
    submitted(folder)
    start_run(folder, squares).write_results([])
    evaluation = squares.evaluation
    for jobs, expected in (({("slurm", "12_3"): QueuedJob(False)}, State.RUNNING), ({}, State.TRAINED)):
        assert cell_status(folder, submissions_of(folder), jobs, evaluation).state is State.FINISHED
        fewer = evaluation.model_copy(update={"selections": ("last",)})
        assert cell_status(folder, submissions_of(folder), jobs, fewer).state is State.FINISHED
        blurred = evaluation.model_copy(update={"fill": "blur"})
        status = cell_status(folder, submissions_of(folder), jobs, blurred)
        assert status.state is expected
    assert "evaluation.fill zero, asked for blur" in status.reason


def test_a_run_that_failed_says_why(folder: Path, squares: RunConfig) -> None:
    start_run(folder, squares).record_ending(6, "classifier/guidance is not finite")
    assert state(folder) == (State.FAILED, "classifier/guidance is not finite")


def test_a_run_that_lost_a_rank_goes_on_when_submitted_again(folder: Path, squares: RunConfig) -> None:
    start_run(folder, squares).record_ending(LostRankError.exit_code, "rank 1 died")
    submitted(folder)
    assert state(folder) == (State.INTERRUPTED, "rank 1 died")


def test_a_run_that_was_killed_stands_in_a_grid_as_align_dist_status_has_it(folder: Path, squares: RunConfig) -> None:
    """Killed in training, and killed after training, before anything was measured; both left a log."""
    run = start_run(folder, squares)
    submitted(folder, "1", str(folder.with_suffix(".log")))
    folder.with_suffix(".log").write_text("step 7\n")
    assert state(folder) == (State.INTERRUPTED, status_of(run).reason)
    run.trained.write_text(json.dumps({"selected": {"last": 24}}))
    assert state(folder)[0] is status_of(run).state is State.TRAINED


def test_a_run_held_by_someone_runs(folder: Path, squares: RunConfig) -> None:
    start_run(folder, squares)
    with RunFolder(folder).locked():
        assert state(folder)[0] is State.RUNNING
    assert state(folder)[0] is State.INTERRUPTED


def test_a_run_whose_results_are_gone_is_measured_again_and_has_not_failed(folder: Path, squares: RunConfig) -> None:
    submitted(folder)
    run = start_run(folder, squares)
    run.write_results([])
    run.results.unlink()
    assert state(folder)[0] is State.TRAINED


@pytest.mark.parametrize("retry", [False, True])
def test_what_goes_on_is_submitted_again_and_what_failed_when_asked(retry: bool) -> None:
    cells: Any = list(State)
    left = {State.NEW, State.INTERRUPTED, State.TRAINED} | ({State.FAILED} if retry else set())
    assert set(to_submit(cells, [CellStatus(state, "", None) for state in State], retry)) == left


def test_a_job_cancelled_before_it_began_is_new_again(folder: Path) -> None:
    submitted(folder)
    assert state(folder) == (State.NEW, "cancelled before it began")


def test_a_torn_record_is_no_obstacle(folder: Path) -> None:
    submitted(folder, "1")
    with (folder / "jobs.jsonl").open("a") as file:
        file.write('{"cluster": "sl')
    assert [submission.job for submission in submissions_of(folder)] == ["1"]


def test_squeues_lines() -> None:
    text = "7|RUNNING|None\n8_0|PENDING|Priority\n8_1|COMPLETING|None\n9|COMPLETED|None\n10|PENDING|(a|b)\n"
    assert parse_queue(text) == {
        "7": QueuedJob(False),
        "8_0": QueuedJob(True, "Priority"),
        "8_1": QueuedJob(False),
        "10": QueuedJob(True, "(a|b)"),
    }


def test_a_local_process_that_is_not_submitits_is_no_job() -> None:
    submissions = [Submission("local", job, "", "", "", 0.0) for job in ("1", "999999999", "x")]
    assert read_queue(submissions) == {}


def test_records_are_plain(folder: Path) -> None:
    submission = submitted(folder)
    assert json.loads((folder / "jobs.jsonl").read_text())["job"] == submission.job
    assert "env" not in (folder / "jobs.jsonl").read_text()


def test_a_config_survives_the_journey_as_plain_values(squares: RunConfig) -> None:
    from align_dist.config import parse_config

    assert to_yaml(parse_config(squares.model_dump(mode="json"))) == to_yaml(squares)
