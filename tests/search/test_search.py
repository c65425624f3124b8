"""Real searches by Ray, through `launch/tune.py`: killed, continued, over ranks, and stopped by ASHA."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ranks import run_ranks
from refusals import raises
from searches import finish, record, start, starts_of, wait_for, workers, write_search
from weights import assert_same_weights

from align_dist.config import RunConfig, load_config, to_yaml
from align_dist.errors import ConfigError
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import read_scalars
from align_dist.runs.warmup import branch_step
from align_dist.search.config import SearchConfig
from align_dist.search.sampler import TrialSampler
from align_dist.search.tuner import run_search
from align_dist.training_plan import schedule_of

Json = dict[str, Any]

SPACE = {
    "align.lambda1": {"loguniform": [0.5, 8.0]},
    # 1e38 is a finite λ4 with an infinite loss.
    "align.lambda4": {"choice": [0.5, 1.0e38]},
    "training.warmup": {"choice": ["4 steps", "8 steps"]},
}


def with_one_bad_trial(squares: RunConfig, path: Path) -> tuple[Path, SearchConfig]:
    """A search whose trials share one good warm-up of two lengths, but for one whose warm-up diverges."""
    for seed in range(1000):
        written, search = write_search(squares, path, space=SPACE, seed=seed, samples=3)
        values = [trial.values for trial in TrialSampler(search).trials]
        if sorted(value["training.warmup"] for value in values if value["align.lambda4"] == 0.5) == [
            "4 steps",
            "8 steps",
        ]:
            return written, search
    raise AssertionError("no seed has such trials")


class Searched:
    """A search that was killed with SIGKILL in its middle, then lost Ray, then a worker, and came to its end."""

    def __init__(self, squares: RunConfig, path: Path) -> None:
        self.path, self.search = with_one_bad_trial(squares, path)
        self.folder = path / "runs" / "search"
        self.early = self._killed_in_the_middle()
        self.without_ray, _, self.stderr_without_ray = self._without_ray()
        self.code, self.stdout, self.stderr = self._to_its_end()
        self.json: Json = json.loads((self.folder / "search.json").read_text())

    def _killed_in_the_middle(self) -> dict[Path, int]:
        """Folders that were finished when the driver was killed, and how often they had been started."""
        process = start(self.path, "--concurrency", "1")
        wait_for(lambda: any(self.folder.glob("*/trained.json")), process)
        wait_for(lambda: len(workers(self.folder.parent)) > 0, process)
        process.kill()
        process.communicate()
        finished = {path.parent: starts_of(path.parent) for path in self.folder.glob("*/trained.json")}
        deadline = time.monotonic() + 60
        while workers(self.folder.parent):
            assert time.monotonic() < deadline, "trials outlive the search"
            time.sleep(0.1)
        return finished

    def _without_ray(self) -> tuple[int, str, str]:
        process = start(self.path, "--concurrency", "1")
        wait_for(lambda: len(workers(self.folder.parent)) > 0, process)
        next(child for child in psutil.Process(process.pid).children() if child.name() == "gcs_server").kill()
        return finish(process)

    def _to_its_end(self) -> tuple[int, str, str]:
        process = start(self.path)
        wait_for(lambda: len(workers(self.folder.parent)) > 0, process)
        workers(self.folder.parent)[0].kill()
        return finish(process)

    def good(self) -> list[Json]:
        return [trial for trial in self.json["trials"] if trial["state"] == "trained"]


@pytest.fixture(scope="module")
def searched(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searched]:
    yield Searched(squares, tmp_path_factory.mktemp("searched"))


def test_a_killed_search_goes_on_and_repeats_nothing(searched: Searched) -> None:
    assert searched.code == 0, searched.stderr
    assert searched.early, "something was finished when it was killed"
    assert {folder: starts_of(folder) for folder in searched.early} == searched.early
    assert [trial["number"] for trial in searched.json["trials"]] == [0, 1, 2]
    assert len(searched.good()) == 2


def test_a_search_whose_ray_is_killed_ends_in_one_line(searched: Searched) -> None:
    assert searched.without_ray == 8
    last = searched.stderr_without_ray.strip().splitlines()[-1]
    assert last.startswith("tune.py: ") and "gcs_server" in last


def test_a_trial_that_diverges_is_on_record_and_stops_nobody(searched: Searched) -> None:
    (bad,) = [trial for trial in searched.json["trials"] if trial["state"] == "failed"]
    assert bad["values"]["align.lambda4"] == 1e38 and bad["objective"] is None
    assert bad["reason"].startswith("in warm-up: ") and "is not finite" in bad["reason"]
    assert "trial.log" in os.listdir(bad["folder"])


def test_warmup_is_trained_once_and_the_cost_says_so(searched: Searched) -> None:
    """One warm-up to step 8; two trials of 16 steps, from steps 4 and 8 on; the failed one never left its own."""
    good = searched.good()
    assert {trial["branch_step"] for trial in good} == {4, 8} and len({trial["trunk"] for trial in good}) == 1
    cost = searched.json["cost"]
    assert cost["ratio"] == pytest.approx((8 + 12 + 8) / 32, abs=1e-4)
    epoch = schedule_of(searched.search.base()).epoch
    assert cost["epochs_without_sharing"] == pytest.approx(32 / epoch, abs=1e-3)
    trunk = Path(good[0]["trunk"])
    assert sorted(int(path.stem) for path in (trunk / "branches").glob("*.ckpt")) == [4, 8]
    for trial in good:
        assert RunFolder(Path(trial["folder"])).first_steps[0] == trial["branch_step"]


def test_the_best_config_is_the_trial_and_train_measures_it(searched: Searched, tmp_path: Path) -> None:
    best = searched.json["best"]
    assert best["objective"] == max(trial["objective"] for trial in searched.good())
    config = load_config(searched.folder / "best.yaml")
    assert config.folder == Path(best["folder"])
    scratch = config.model_copy(update={"runs": tmp_path})
    (tmp_path / "scratch.yaml").write_text(to_yaml(scratch))
    run_ranks(1, ["-m", "align_dist.cli", "train", str(tmp_path / "scratch.yaml")])
    assert_same_weights(scratch.folder, Path(best["folder"]))
    run_ranks(1, ["-m", "align_dist.cli", "train", str(searched.folder / "best.yaml")])
    rows = [json.loads(line) for line in (config.folder / "results.jsonl").read_text().splitlines()]
    assert {row["domain"] for row in rows} == {"bright", "dark"} and (config.folder / "done").exists()


def test_the_search_saw_no_target_and_shows_its_trials(searched: Searched) -> None:
    for trial in searched.good():
        folder = Path(trial["folder"])
        scalars = read_scalars(folder / "metrics.jsonl")
        assert not any("dark" in tag or "oracle" in tag for tag in scalars) and set(trial["metrics"]) == {"accuracy"}
        assert list((folder / "events" / "hyperparameters").glob("*.search-*"))
    pictures = {path.stem: path.read_bytes() for path in searched.folder.glob("*.png")}
    assert pictures.keys() == {"history", "slice", "parallel", "importances"}
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())
    assert f"best: trial {searched.json['best']['number']}" in searched.stdout
    assert "0.875" in searched.stdout, "the ratio of epochs"
    changes = [line for line in searched.stderr.splitlines() if line.startswith("trial ")]
    assert 2 <= len(changes) <= 8, "a line for each change of a trial's state"


def test_a_finished_search_says_so_at_once_and_leaves_ray_alone(searched: Searched) -> None:
    before = {trial["folder"]: starts_of(Path(trial["folder"])) for trial in searched.good()}
    no_ray = "import sys; sys.modules['ray'] = None; sys.argv[0] = 'tune.py'; exec(open('launch/tune.py').read())"
    process = subprocess.run(
        [sys.executable, "-c", no_ray, str(searched.path)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-3:] == searched.stdout.splitlines()[-3:]
    assert {trial["folder"]: starts_of(Path(trial["folder"])) for trial in searched.good()} == before


def test_another_search_of_the_same_name_is_refused(searched: Searched, squares: RunConfig) -> None:
    _, other = write_search(squares, searched.path.parent, space=SPACE, seed=12345)
    with raises(ConfigError, other.folder(), "seed"):
        run_search(other)


def test_two_ranks_a_trial_are_two_ranks_by_hand(squares: RunConfig, tmp_path: Path) -> None:
    """Also when one of them is killed in training: the search starts both again. What an engine does, tests/parallel
    shows.
    """
    space = {"align.lambda1": {"loguniform": [0.5, 8.0]}}
    overrides = ["training.length=12 steps", "training.warmup=4 steps", "training.validate_every=4 steps"]
    path, _ = write_search(
        squares,
        tmp_path,
        space=space,
        samples=1,
        ranks_per_trial=2,
        overrides=[*overrides, f"runs={tmp_path / 'runs'}"],
    )
    process = start(path)
    # After the ranks have connected; before that, the surviving rank would wait for the killed one.
    wait_for(lambda: any((tmp_path / "runs").rglob("environment.json")), process)
    assert len(ranks := workers(tmp_path)) == 2 and all("RANK" in rank.environ() for rank in ranks)
    next(rank for rank in workers(tmp_path) if rank.environ()["RANK"] == "1").kill()
    code, _, stderr = finish(process)
    assert code == 0, stderr
    (trial,) = json.loads((tmp_path / "runs" / "search" / "search.json").read_text())["trials"]
    folder = Path(trial["folder"])
    assert trial["state"] == "trained" and trial["branch_step"] == 4
    assert json.loads((folder / "environment.json").read_text())[-1]["ranks"] == 2
    config = load_config(tmp_path / "runs" / "search" / "best.yaml", [f"runs={tmp_path / 'hand'}"])
    assert config.folder.name == folder.name and branch_step(config) == 4
    (tmp_path / "hand.yaml").write_text(to_yaml(config))
    run_ranks(2, ["-m", "align_dist.cli", "train", str(tmp_path / "hand.yaml")])
    assert_same_weights(config.folder, folder)


def test_asha_stops_what_is_worse_than_the_trials_of_an_earlier_start(squares: RunConfig, tmp_path: Path) -> None:
    """The first trial's folder says that it is perfect: no other gets past its first rung."""
    path, search = write_search(
        squares,
        tmp_path,
        space={"align.lambda1": {"loguniform": [0.5, 8.0]}},
        samples=2,
        scheduler={"kind": "asha", "grace_period": 1, "factor": 2},
        overrides=["training.length=24 steps", "training.warmup=4 steps", f"runs={tmp_path / 'runs'}"],
    )
    perfect, other = TrialSampler(search).trials
    record(search, perfect, {8: 2.0, 16: 2.0, 24: 2.0})
    code, _, stderr = finish(start(path))
    assert code == 0, stderr
    summary = json.loads((tmp_path / "runs" / "search" / "search.json").read_text())
    states = {trial["number"]: trial for trial in summary["trials"]}
    assert states[0]["state"] == "trained" and summary["best"]["number"] == 0
    assert states[1]["state"] == "stopped" and states[1]["reason"].startswith("ASHA: ")
    assert states[1]["steps"] < 24 and not RunFolder(other.folder).trained.exists()
    assert not workers(tmp_path)


def test_ctrl_c_saves_and_the_same_command_goes_on_with_what_tpe_had_chosen(squares: RunConfig, tmp_path: Path) -> None:
    space = {"align.lambda1": {"loguniform": [0.5, 8.0]}}
    confirm = {"finalists": 1, "seeds": 1}
    path, _ = write_search(squares, tmp_path, space=space, samples=2, algorithm="tpe", confirm=confirm)
    folder = tmp_path / "runs" / "search"
    process = start(path, in_group=True)
    wait_for(lambda: any(folder.glob("warmups/*/metrics.jsonl")), process)
    os.killpg(process.pid, signal.SIGINT)
    code, _, stderr = finish(process)
    assert code == 75, stderr
    assert stderr.strip().splitlines()[-1].startswith("tune.py: SIGINT: ")
    logs = "".join(log.read_text() for log in folder.glob("*/trial.log"))
    assert not workers(tmp_path) and "SIGTERM: saved at step" in logs
    folders = {path.parent for path in folder.glob("*/suggested.json")}
    code, _, stderr = finish(start(path))
    assert code == 0, stderr
    summary = json.loads((folder / "search.json").read_text())
    trials, (confirmed,) = summary["trials"], summary["confirmations"]
    assert [(trial["number"], trial["state"]) for trial in trials] == [(0, "trained"), (1, "trained")]
    assert (confirmed["number"], confirmed["seed"], confirmed["state"]) == (2, 1, "trained")
    assert confirmed["values"] == summary["best"]["values"] and len(summary["finalists"][0]["others"]) == 1
    assert folders and folders <= {Path(trial["folder"]) for trial in trials}


def test_tpe_that_has_no_more_trials_says_so(squares: RunConfig, tmp_path: Path) -> None:
    """To four digits the space holds one value. The method is another than ALIGN."""
    overrides = ["method=dre", f"runs={tmp_path / 'runs'}"]
    space = {"dre.lambda4": {"uniform": [1.0, 1.0001]}}
    path, search = write_search(squares, tmp_path, space=space, samples=2, algorithm="tpe", overrides=overrides)
    (trial,) = [TrialSampler(search).ask()]
    assert trial is not None
    record(search, trial, {16: 0.75})
    code, _, stderr = finish(start(path))
    assert code == 2 and stderr.splitlines()[-1].startswith("tune.py: samples: "), stderr
