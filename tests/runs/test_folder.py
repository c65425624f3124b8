from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import raises

from align_dist.config import RunConfig
from align_dist.data.comparison import checked_manifest
from align_dist.errors import CheckpointError, ConfigError
from align_dist.machine import describe_machine
from align_dist.run import train_run
from align_dist.runs.folder import RunFolder, find_run_folders
from align_dist.runs.results import write_rows


def test_every_start_of_a_run_is_on_record(squares: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(squares)
    first = json.loads(folder.environment.read_text())
    folder.begin(squares)
    second = json.loads(folder.environment.read_text())
    assert [start["machine"] for start in second] == [describe_machine()] * 2
    assert second[:1] == first and {"torch", "ffcv"} <= set(first[0]["packages"])


@pytest.mark.parametrize("content", ["torn {", '{"python": "3.10"}', ""])
def test_a_record_that_cannot_be_read_stops_no_run(squares: RunConfig, tmp_path: Path, content: str) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(squares)
    folder.environment.write_text(content)
    folder.begin(squares)
    assert len(json.loads(folder.environment.read_text())) == 1


def test_a_folder_holds_one_run(squares: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(squares)
    with raises(ConfigError, folder.path):
        folder.begin(squares.model_copy(update={"seed": squares.seed + 1}))
    assert folder.config() == squares.with_own_options_only()


def test_one_process_at_a_time_trains_a_run_and_its_death_frees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("align_dist.runs.folder.HOLD_TRIES", 2)
    folder = RunFolder(tmp_path / "run")
    assert not folder.is_locked()
    holder = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "held.py"), str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert folder.is_locked()
    with raises(CheckpointError, folder.path), folder.locked():
        pass
    holder.kill()
    holder.wait()
    with folder.locked():
        assert folder.is_locked()
    assert not folder.is_locked()


def test_what_a_kill_left_half_written_goes_with_the_next_start(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    kept = folder.checkpoints / "last.ckpt"
    kept.write_bytes(b"good")
    writing = f"""
import time
from pathlib import Path
from align_dist.files import write_atomically
def write(file):
    file.write(b"half")
    print("writing", flush=True)
    time.sleep(60)
write_atomically(Path({str(folder.checkpoints / ".next.ckpt")!r}), write)
"""
    writer = subprocess.Popen([sys.executable, "-c", writing], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    writer.kill()
    writer.wait()
    assert len(list(folder.checkpoints.iterdir())) == 2
    with folder.locked():
        assert list(folder.checkpoints.iterdir()) == [kept]


def test_how_a_start_ended_is_on_record_until_the_next(squares: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(squares)
    folder.record_ending(6, "a loss is not finite")
    assert json.loads(folder.ended.read_text()) == {"exit_code": 6, "reason": "a loss is not finite"}
    folder.begin(squares)
    assert not folder.ended.exists()


def test_a_run_that_was_finished_on_other_pictures_is_not_done_already(squares: RunConfig, tmp_path: Path) -> None:
    config = squares.model_copy(update={"runs": tmp_path})
    folder = RunFolder(config.folder)
    folder.begin(config, 1, checked_manifest(config.benchmark).fingerprint)
    folder.write_results([])
    messages: list[str] = []
    train_run(config, messages.append)
    assert messages == [f"{config.folder}: done already"]
    folder.environment.write_text(json.dumps([{"fingerprint": "0" * 16}]))
    with raises(ConfigError, "experiment=NAME"):
        train_run(config, messages.append)


def test_a_finished_run_under_another_runs_name_is_not_done_already(squares: RunConfig, tmp_path: Path) -> None:
    config = squares.model_copy(update={"runs": tmp_path, "seed": squares.seed + 1})
    folder = RunFolder(config.folder)
    folder.begin(squares, 1, checked_manifest(squares.benchmark).fingerprint)
    folder.write_results([])
    with raises(ConfigError, config.folder):
        train_run(config)


def test_a_run_that_is_all_warm_up_says_that_nothing_guided_it(squares: RunConfig, tmp_path: Path) -> None:
    changed = {"length": "2 steps", "warmup": "2 steps"}
    training = squares.training.model_copy(update=changed)
    messages: list[str] = []
    train_run(squares.model_copy(update={"runs": tmp_path, "training": training}), messages.append)
    assert any("training.warmup" in line for line in messages)


def test_runs_are_found_below_parents_and_each_once(squares: RunConfig, tmp_path: Path) -> None:
    description, results = RunFolder(tmp_path / "x" / "one"), RunFolder(tmp_path / "x" / "y" / "two")
    description.begin(squares)
    write_rows(results.results, [])
    paths = sorted([description.path.resolve(), results.path.resolve()])
    assert find_run_folders([description.path, tmp_path, tmp_path / "x"]) == paths


def test_a_place_without_runs_is_an_error(tmp_path: Path) -> None:
    with raises(CheckpointError, tmp_path, "results.jsonl"):
        find_run_folders([tmp_path])
    with raises(CheckpointError, tmp_path / "nowhere"):
        find_run_folders([tmp_path / "nowhere"])
