"""Whole runs in real processes: killed, stopped, resumed, and compared bit by bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Forked, on_a_full_disk
from refusals import raises
from weights import assert_same_weights

from align_dist.assembly import assemble
from align_dist.config import RunConfig, to_yaml
from align_dist.errors import CheckpointError
from align_dist.run import train_run as train
from align_dist.runs.checkpoint import load_checkpoint, load_weights
from align_dist.runs.folder import RunFolder
from align_dist.runs.selection import load_selected
from align_dist.training.loop import train as train_to_the_end
from align_dist.training.signals import noticing_signals

DYING = Path(__file__).parent / "dying.py"
COMMAND = ["-m", "align_dist.cli", "train"]


def described(config: RunConfig, path: Path, **training: str) -> RunConfig:
    """The config with its runs under `path`, written to `path`/run.yaml."""
    changed = config.model_copy(update={"runs": path / "runs", "training": config.training.model_copy(update=training)})
    (path / "run.yaml").write_text(to_yaml(changed))
    return changed


def start(path: Path, before: Callable[[], None] | None = None) -> Forked:
    return Forked([*COMMAND, str(path / "run.yaml")], before=before)


@pytest.fixture(scope="module")
def uninterrupted(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(described(squares, tmp_path_factory.mktemp("whole")))


def test_a_run_leaves_everything_a_user_looks_for(uninterrupted: RunFolder) -> None:
    for name in ("config.yaml", "environment.json", "metrics.jsonl", "results.jsonl", "done", "checkpoints/last.ckpt"):
        assert (uninterrupted.path / name).exists(), name
    rows = [json.loads(line) for line in uninterrupted.results.read_text().splitlines()]
    assert {(row["selection"], row["domain"]) for row in rows} == {
        (s, d) for s in ("validation", "last", "oracle") for d in ("bright", "dark")
    }
    assert {row["domain"]: row["role"] for row in rows} == {"bright": "in_domain", "dark": "out_of_domain"}
    expected = {"accuracy", "roc_auc", "insertion_auc", "sufficiency", "comprehensiveness", "mask_iou", "energy_inside"}
    assert all(expected <= row["metrics"].keys() for row in rows)
    names = {key for line in uninterrupted.metrics.read_text().splitlines() for key in json.loads(line)}
    assert {"mask/area", "masker/distinction", "classifier/guidance", "speed/waiting_for_data"} <= names
    assert {"masker/gradient_norm/sparsity", "classifier/gradient_norm/guidance"} <= names
    drawn = sorted(path.stem for path in uninterrupted.pictures.iterdir())
    assert drawn == ["bright", "dark", "validation-bright"]


def test_selection_never_chooses_from_within_warm_up(uninterrupted: RunFolder) -> None:
    """Validation at 8, 16 and 24 steps, guidance from 10 on: weights of step 8 are another method's."""
    steps = {load_weights(path)["step"] for path in uninterrupted.selected.glob("*.pt")}
    assert steps <= {16, 24} and 24 in steps


def test_without_oracle_no_target_is_looked_at_in_training(squares: RunConfig, tmp_path: Path) -> None:
    """Pictures are drawn at steps 12 and 16: a loader that shows nothing but training and validation is enough."""
    evaluation = squares.evaluation.model_copy(update={"selections": ("last",)})
    config = described(squares.model_copy(update={"evaluation": evaluation}), tmp_path, length="16 steps")
    run, folder = assemble(config), RunFolder(config.folder)
    run.loader.allow_only(np.concatenate([run.split.train, run.split.validation]))
    with noticing_signals() as request:
        train_to_the_end(run, folder, request, print)
    assert [path.name for path in folder.pictures.iterdir()] == ["validation-bright.png"]
    train(config)  # now with its tests
    assert sorted(path.stem for path in folder.pictures.iterdir()) == ["bright", "dark", "validation-bright"]
    assert not (folder.selected / "oracle.pt").exists()
    assert "validation/accuracy" in folder.metrics.read_text() and "oracle" not in folder.metrics.read_text()


def test_another_runs_checkpoint_is_refused(squares: RunConfig, uninterrupted: RunFolder, tmp_path: Path) -> None:
    config = described(squares.model_copy(update={"seed": 1}), tmp_path)
    shutil.copytree(uninterrupted.checkpoints, RunFolder(config.folder).checkpoints)
    with raises(CheckpointError, uninterrupted.config().identity):
        train(config)


def test_a_finished_run_is_not_trained_again(uninterrupted: RunFolder) -> None:
    before = (uninterrupted.path / "checkpoints/last.ckpt").stat().st_mtime_ns
    messages: list[str] = []
    train(uninterrupted.config(), messages.append)
    assert messages == [f"{uninterrupted.path}: done already"]
    assert (uninterrupted.path / "checkpoints/last.ckpt").stat().st_mtime_ns == before


def wait_for_step(folder: Path, step: int, process: Forked) -> None:
    """Until the run has logged `step`."""
    for _ in range(6000):
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        if (folder / "metrics.jsonl").exists():
            lines = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]
            if any(json.loads(line)["step"] >= step for line in lines):
                return
        time.sleep(0.02)
    raise AssertionError("the run never came so far")


@pytest.mark.parametrize("phase", [range(1, 10), range(11, 23)], ids=["warm-up", "guided"])
def test_runs_killed_five_times_resume_to_the_same_weights(
    squares: RunConfig, uninterrupted: RunFolder, tmp_path: Path, phase: range
) -> None:
    config = described(squares, tmp_path)
    for step in sorted(random.Random(0).sample(phase, 5)):
        process = start(tmp_path)
        wait_for_step(config.folder, step, process)
        process.kill()
        process.wait()
        assert not (config.folder / "done").exists()
    finished = start(tmp_path)
    _, output = finished.communicate()
    assert finished.returncode == 0, output
    assert RunFolder(config.folder).first_steps[-1] > 0, output
    assert_same_weights(config.folder, uninterrupted.path)
    logged = [json.loads(line)["step"] for line in (config.folder / "metrics.jsonl").read_text().splitlines()]
    assert logged == sorted(logged)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_saves_and_leaves_with_75(
    squares: RunConfig, uninterrupted: RunFolder, tmp_path: Path, number: signal.Signals
) -> None:
    config = described(squares, tmp_path)
    process = start(tmp_path)
    wait_for_step(config.folder, 6, process)
    process.send_signal(number)
    # Slurm tells a job that it is cancelled, then its step: at any moment until its end.
    while number != signal.SIGINT and process.poll() is None:
        process.send_signal(number)
        time.sleep(0.001)
    _, output = process.communicate()
    assert process.returncode == 75, output
    ending = RunFolder(config.folder).ending()
    assert ending is not None and ending.exit_code == 75 and ending.reason.startswith(number.name), output
    assert output.strip().splitlines()[-1] == f"align-dist: {ending.reason}"
    train(config)
    assert_same_weights(config.folder, uninterrupted.path)


def test_a_damaged_checkpoint_is_named_and_the_previous_used(
    squares: RunConfig, uninterrupted: RunFolder, tmp_path: Path
) -> None:
    config = described(squares, tmp_path)
    process = start(tmp_path)
    wait_for_step(config.folder, 10, process)
    process.kill()
    process.wait()
    newest = config.folder / "checkpoints" / "last.ckpt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    newest.write_bytes(content)
    messages: list[str] = []
    train(config, messages.append)
    assert any("last.ckpt" in line and "previous.ckpt" in line for line in messages)
    assert RunFolder(config.folder).first_steps[-1] > 0
    assert_same_weights(config.folder, uninterrupted.path)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(squares: RunConfig, tmp_path: Path) -> None:
    rates = squares.classifier.optimiser.model_copy(update={"name": "sgd", "learning_rate": 1e30})
    wild = squares.model_copy(update={"classifier": squares.classifier.model_copy(update={"optimiser": rates})})
    config = described(wild, tmp_path, checkpoint_every="1 steps")
    process = start(tmp_path)
    _, output = process.communicate()
    assert process.returncode == 6, output
    last = output.strip().splitlines()[-1]
    assert last.startswith("align-dist: classifier/")
    ending = RunFolder(config.folder).ending()
    assert ending is not None and ending.exit_code == 6 and last.endswith(ending.reason)
    state = load_weights(config.folder / "checkpoints" / "last.ckpt")
    for network in state["networks"].values():
        assert all(torch.isfinite(v.float()).all() for v in network["module"].values())


def test_a_full_disk_is_one_line_and_leaves_no_torn_file(squares: RunConfig, tmp_path: Path) -> None:
    described(squares, tmp_path)
    process = start(tmp_path, before=on_a_full_disk)
    _, output = process.communicate()
    assert process.returncode == 7, output
    assert "Traceback" not in output
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]


def test_dropout_and_bfloat16_resume_exactly(squares: RunConfig, tmp_path: Path) -> None:
    """Dropout draws from torch's generator: it too must be a function of (seed, step)."""
    network = squares.classifier.model_copy(update={"backbone": "efficientnet_lite0", "small_images": True})
    changed = squares.model_copy(update={"classifier": network, "method": "erm"})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    short = {"length": "8 steps", "warmup": "0 steps", "precision": "bfloat16"}
    whole = train(described(changed, tmp_path / "a", **short))
    config = described(changed, tmp_path / "b", **short)
    process = start(tmp_path / "b")
    wait_for_step(config.folder, 5, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert_same_weights(train(config).path, whole.path)


# In the order of a save that validation and oracle have chosen new weights before.
WRITES = [
    ("open", ".next.ckpt"),
    ("rename", ".next.ckpt"),
    ("rename", "previous.ckpt"),
    ("rename", "last.ckpt"),
    ("open", "validation.pt"),
    ("rename", "validation.pt"),
    ("open", "oracle.pt"),
    ("rename", "oracle.pt"),
    ("open", "last.pt"),
    ("rename", "last.pt"),
]


def test_killed_before_every_write_of_a_save_a_run_is_the_uninterrupted_one(
    squares: RunConfig, uninterrupted: RunFolder, tmp_path: Path
) -> None:
    """Each start goes on from what the one before has left, and dies at the next write. Selection begins at step 16."""
    config = described(squares, tmp_path)
    train(config.model_copy(update={"training": config.training.model_copy(update={"until": "12 steps"})}))
    folder = RunFolder(config.folder)
    for event, name in WRITES:
        dead = Forked([str(DYING), event, name, "train", str(tmp_path / "run.yaml")])
        assert dead.wait() == -signal.SIGKILL, (event, name, dead.communicate())
        state = load_checkpoint(folder.checkpoints, lambda _: None)
        assert state is not None
        steps = {name: weights["step"] for name, weights in state["selected"].items()}
        best = {name: state["position"][name]["step"] for name in ("validation", "oracle")}
        assert steps == {name: step for name, step in best.items() if step >= 0}
    train(config)
    assert_same_weights(folder.path, uninterrupted.path)
    for selection in ("validation", "oracle"):
        assert_same_weights(folder.path, uninterrupted.path, selection)
        assert load_selected(folder.selected, selection)["step"] == best[selection]
    assert folder.results.read_text() == uninterrupted.results.read_text()
