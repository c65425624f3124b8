"""How a search ends when there is nothing to train, or nothing came of it: no Ray is needed to say so."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from refusals import raises
from searches import record, write_search

from align_dist.config import RunConfig
from align_dist.data.prepare import prepare
from align_dist.errors import ConfigError, DataError, LostRankError, NonFiniteError, StorageError, UserError
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State
from align_dist.search.config import SearchConfig
from align_dist.search.sampler import TrialSampler
from align_dist.search.trials import trial_status
from align_dist.search.tuner import run_search

LAMBDA1 = {"align.lambda1": {"loguniform": [0.5, 8.0]}}


def search_of(squares: RunConfig, path: Path, **changes: Any) -> SearchConfig:
    return write_search(squares, path, **{"space": LAMBDA1, "samples": 2, **changes})[1]


def finish_all(search: SearchConfig) -> None:
    for trial in TrialSampler(search).trials:
        record(search, trial, {16: 0.75})


def test_a_search_in_which_every_trial_failed_fails_with_one_line(squares: RunConfig, tmp_path: Path) -> None:
    search = search_of(squares, tmp_path)
    for trial in TrialSampler(search).trials:
        RunFolder(trial.folder).record_ending(NonFiniteError.exit_code, "classifier/guidance is not finite at step 11")
    with pytest.raises(UserError) as caught:
        run_search(search)
    assert "classifier/guidance is not finite" in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    plain = json.loads((search.folder() / "search.json").read_text())
    assert plain["best"] is None and {trial["state"] for trial in plain["trials"]} == {"failed"}
    assert not (search.folder() / "best.yaml").exists()


def test_one_bad_trial_does_not_spoil_the_others(squares: RunConfig, tmp_path: Path) -> None:
    search = search_of(squares, tmp_path)
    first, second = TrialSampler(search).trials
    RunFolder(first.folder).record_ending(ConfigError.exit_code, "data.batch_size: more than there are")
    record(search, second, {16: 0.75})
    assert run_search(search).best == 1


def test_what_finished_is_better_than_what_was_stopped(squares: RunConfig, tmp_path: Path) -> None:
    search = search_of(squares, tmp_path)
    stopped, finished = TrialSampler(search).trials
    record(search, stopped, {12: 0.9}, ends=False)
    RunFolder(stopped.folder).stop("ASHA")
    record(search, finished, {12: 0.8, 16: 0.7})
    results = run_search(search)
    assert results.best == 1 and results.entries[1].objective == 0.8, "of the weights that were selected"


@pytest.mark.parametrize(
    ("error", "state", "over"),
    [
        (NonFiniteError, State.FAILED, True),
        (ConfigError, State.FAILED, True),
        (StorageError, State.FAILED, False),
        (LostRankError, State.INTERRUPTED, False),
    ],
)
def test_what_may_go_better_next_time_is_started_again(
    squares: RunConfig, tmp_path: Path, error: type[UserError], state: State, over: bool
) -> None:
    search = search_of(squares, tmp_path)
    trial = TrialSampler(search).trials[0]
    RunFolder(trial.folder).record_ending(error.exit_code, "so it is")
    status = trial_status(trial, search.objective)
    assert (status.state, status.reason, status.over) == (state, "so it is", over)


def test_a_refused_description_may_be_corrected_until_a_trial_has_begun(squares: RunConfig, tmp_path: Path) -> None:
    with raises(ConfigError, "scheduler.grace_period: ", 99):
        run_search(search_of(squares, tmp_path, scheduler={"kind": "asha", "grace_period": 99}))
    corrected = search_of(squares, tmp_path, scheduler={"kind": "asha", "grace_period": 1})
    with raises(ConfigError, "confirm.finalists: ", 9):
        search_of(squares, tmp_path, confirm={"finalists": 9})
    for trial in TrialSampler(corrected).trials:
        record(corrected, trial, {16: 0.75})
        (trial.folder / "suggested.json").unlink()
    assert run_search(corrected).best == 0
    finish_all(corrected)
    with raises(ConfigError, corrected.folder(), "scheduler"):
        run_search(search_of(squares, tmp_path))
    assert run_search(corrected.model_copy(update={"concurrency": 1, "cpus_per_trial": 2.0})).best == 0


def test_other_pictures_under_the_same_names_are_another_search(squares: RunConfig, tmp_path: Path) -> None:
    search = search_of(squares, tmp_path)
    run_description = search.config.read_text()
    for trial in TrialSampler(search).trials:
        record(search, trial, {16: 0.75})
        (trial.folder / "suggested.json").unlink()
    run_search(search)
    finish_all(search)
    root = tmp_path / "others"
    shutil.copytree(squares.benchmark.root, root)
    shutil.copy(root / "dark" / "left" / "00.png", root / "dark" / "left" / "01.png")
    changed = {"root": root, "masks": None, "betons": tmp_path / "betons", "fingerprint": None}
    benchmark = squares.benchmark.model_copy(update=changed)
    prepare(benchmark)
    other = search_of(squares.model_copy(update={"benchmark": benchmark}), tmp_path)
    with raises(ConfigError, other.folder(), "base run"):
        run_search(other)
    (root / "dark" / "left" / "02.png").unlink()
    with raises(DataError, "dark/left/02.png"):
        run_search(other)
    search.config.write_text(run_description)
    assert run_search(search).best == 0
    (search.folder() / "description.json").write_bytes(b"\xff\xfe torn")
    with raises(ConfigError, search.folder(), "base run", "scheduler"):
        run_search(search)


def test_a_folder_that_cannot_be_made_is_one_line(squares: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises(StorageError, tmp_path / "file" / "search"):
        run_search(search_of(squares, tmp_path, overrides=[f"runs={tmp_path / 'file'}"]))


def test_a_second_process_does_not_run_the_same_search(squares: RunConfig, tmp_path: Path) -> None:
    search = search_of(squares, tmp_path)
    search.folder().mkdir(parents=True)
    with (search.folder() / ".searching").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with raises(ConfigError, search.folder()):
            run_search(search)


def test_a_plan_says_what_is_shared_and_what_would_be_if_more_were(squares: RunConfig, tmp_path: Path) -> None:
    """Runs of 16 steps, 3.5 of them an epoch, guided from step 10 on."""
    path, search = write_search(squares, tmp_path, space=LAMBDA1, samples=2)

    def plan(*overrides: str) -> str:
        command = [sys.executable, "launch/tune.py", str(path), "--plan", *overrides]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    trials = TrialSampler(search).trials
    lines = plan().splitlines()
    assert [line.split(",")[0] for line in lines[:2]] == [str(trial) for trial in trials]
    assert lines[2] == "6.286 epochs, 9.143 without shared warm-up (ratio 0.688)"
    write_search(squares, tmp_path, space={"align.lambda4": {"loguniform": [0.1, 1.0]}}, samples=2)
    assert "note: align.lambda4 acts in warm-up" in plan()
    assert not search.folder().exists(), "a plan makes nothing"
