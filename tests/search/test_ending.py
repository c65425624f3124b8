"""How a search ends when there is nothing to train, or nothing came of it: no Ray is needed to say so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from align_dist.config import RunConfig, to_yaml
from align_dist.data.prepare import prepare
from align_dist.errors import ConfigError, DataError, LostRankError, NonFiniteError, StorageError, UserError
from align_dist.parallel.ranks import Ranks, find_ranks
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State
from align_dist.search.board import LogBoard
from align_dist.search.child import environment_of
from align_dist.search.folders import Trial, mark_suggested, trial_status
from align_dist.search.plan import random_trials
from align_dist.search.search import carry_out_search, show_plan
from align_dist.search.space import SearchConfig, parse_search


def make_search(squares: RunConfig, path: Path, **changes: Any) -> SearchConfig:
    (path / "run.yaml").write_text(to_yaml(squares))
    values = {
        "config": str(path / "run.yaml"),
        "overrides": [f"runs={path}"],
        "experiment": "search",
        "samples": 2,
        "space": {"align.lambda1": {"loguniform": [0.5, 8.0]}},
    }
    return parse_search(values | changes)


def finish(folder: Path, accuracy: float, **metrics: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = json.dumps({"step": 24, "guided_epochs": 3.5, "metrics": {"accuracy": accuracy, **metrics}})
    (folder / "reports.jsonl").write_bytes(f"{told}\n".encode() + b'\xff\xfe\n{"step": 3}\n' + told[:20].encode())
    (folder / "trial.json").write_text(told)


def test_a_search_in_which_every_trial_failed_fails_with_one_line(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    for trial in random_trials(search, 2):
        RunFolder(trial.folder).end_badly(NonFiniteError.exit_code, "classifier/guidance is not finite at step 11")
    with pytest.raises(UserError) as caught:
        carry_out_search(search)
    assert "every trial failed, the first with: classifier/guidance is not finite" in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    found = json.loads((tmp_path / "search" / "search.json").read_text())
    assert found["best"] is None and {trial["state"] for trial in found["trials"]} == {"failed"}
    assert not (tmp_path / "search" / "best.yaml").exists()


def test_one_bad_trial_does_not_spoil_the_others(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    first, second = random_trials(search, 2)
    RunFolder(first.folder).end_badly(ConfigError.exit_code, "data.batch_size: more than there are")
    finish(second.folder, 0.75)
    assert carry_out_search(search).best == 1


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
    tmp_path: Path, error: type[UserError], state: State, over: bool
) -> None:
    RunFolder(tmp_path / "trial").end_badly(error.exit_code, "so it is")
    found = trial_status(tmp_path / "trial")
    assert (found.state, found.reason, found.over) == (state, "so it is", over)


def test_a_pareto_search_finds_its_front_and_a_config_for_each_trial_on_it(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path, samples=3, objective={"kind": "pareto", "metric": "sufficiency"})
    numbers = [(0.9, 0.5), (0.8, 0.6), (0.7, 0.1)]  # of sufficiency less is better: the second is beaten
    for trial, (accuracy, sufficiency) in zip(random_trials(search, 3), numbers, strict=True):
        finish(trial.folder, accuracy, sufficiency=sufficiency)
    found = carry_out_search(search)
    assert list(found.front) == [2, 0]
    folder = tmp_path / "search"
    assert sorted(path.name for path in folder.glob("front-*.yaml")) == ["front-0000.yaml", "front-0002.yaml"]
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG")


def test_the_front_is_that_of_all_trials(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path, objective={"kind": "pareto", "metric": "sufficiency"})
    first, second = random_trials(search, 2)
    finish(first.folder, 0.8, sufficiency=0.5)
    RunFolder(second.folder).end_badly(ConfigError.exit_code, "so it is")
    assert carry_out_search(search).front == [0]
    (second.folder / "ended.json").unlink()
    finish(second.folder, 0.9, sufficiency=0.4)
    assert carry_out_search(search).front == [1]
    assert [path.name for path in (tmp_path / "search").glob("front-*.yaml")] == ["front-0001.yaml"]


def test_a_refused_description_may_be_corrected_until_a_trial_has_begun(
    squares: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"scheduler.grace: 99 .* lower it"):
        carry_out_search(make_search(squares, tmp_path, scheduler={"kind": "asha", "grace": 99}))

    def train(_search: SearchConfig, trials: list[Trial], *_: object) -> None:
        for trial in trials:
            finish(trial.folder, 0.75)
            mark_suggested(trial)

    monkeypatch.setattr("align_dist.search.search._train", train)
    assert carry_out_search(make_search(squares, tmp_path, scheduler={"kind": "asha", "grace": 1})).best == 0
    with pytest.raises(ConfigError, match=r"holds another search \(scheduler differ\)"):
        carry_out_search(make_search(squares, tmp_path))


def test_other_pictures_under_the_same_names_are_another_search(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    for trial in random_trials(search, 2):
        finish(trial.folder, 0.75)
        mark_suggested(trial)
    carry_out_search(search)
    root = tmp_path / "others"
    shutil.copytree(squares.benchmark.root, root)
    shutil.copy(root / "dark" / "left" / "00.png", root / "dark" / "left" / "01.png")
    changed = {"root": root, "masks": None, "betons": tmp_path / "betons", "pictures": None}
    benchmark = squares.benchmark.model_copy(update=changed)
    prepare(benchmark)
    with pytest.raises(ConfigError, match=r"\(base run differ\)"):
        carry_out_search(make_search(squares.model_copy(update={"benchmark": benchmark}), tmp_path))
    assert carry_out_search(make_search(squares, tmp_path)).best == 0
    (root / "dark" / "left" / "02.png").unlink()
    with pytest.raises(DataError, match=r"1 gone \(first dark/left/02\.png\)"):
        carry_out_search(make_search(squares.model_copy(update={"benchmark": benchmark}), tmp_path))
    description = tmp_path / "search" / "description.json"
    description.write_bytes(b"\xff\xfe torn")
    with pytest.raises(ConfigError, match="holds another search"):
        carry_out_search(make_search(squares, tmp_path))


def test_an_adaptive_search_that_finds_no_more_trials_says_so(
    squares: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = make_search(squares, tmp_path, algorithm="tpe", samples=3)
    trials = random_trials(search, 2)
    for trial in trials:
        finish(trial.folder, 0.75)
        mark_suggested(trial)
    monkeypatch.setattr("align_dist.search.search._train", lambda *_: None)  # Ray is asked, and has none either
    with pytest.raises(ConfigError, match="samples: the space seems to hold 2 different trials only; lower it"):
        carry_out_search(search)


def test_a_folder_that_cannot_be_made_is_one_line(squares: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/search: cannot be written"):
        carry_out_search(make_search(squares, tmp_path, overrides=[f"runs={tmp_path / 'file'}"]))


def test_a_second_process_does_not_carry_out_the_same_search(squares: RunConfig, tmp_path: Path) -> None:
    import fcntl

    search = make_search(squares, tmp_path)
    (tmp_path / "search").mkdir()
    with (tmp_path / "search" / ".searching").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process carries out this search"):
            carry_out_search(search)


def test_a_trial_is_no_rank_of_the_launcher_around_ray() -> None:
    around = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "RANK": "1", "HOME": "/root"}
    alone = environment_of(around, Ranks(), threads=3)
    assert find_ranks(alone) == Ranks() and alone["HOME"] == "/root" and alone["OMP_NUM_THREADS"] == "3"
    ranks = Ranks(1, 2, 0, 1, "127.0.0.1", 4567, "torchrun")
    assert find_ranks(environment_of(around, ranks, threads=1)) == ranks


def test_a_log_has_a_line_for_each_change_and_none_for_none(
    squares: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from align_dist.search.board import Lines
    from align_dist.search.trunk import Branch

    trials = random_trials(make_search(squares, tmp_path), 2)
    board = LogBoard(Lines(make_search(squares, tmp_path), lambda _: Branch(Path("x-abc"), 10), lambda _: 24))
    board.show(trials, {0})
    board.show(trials, {0})
    finish(trials[0].folder, 0.75)
    board.show(trials, set())
    board.show(trials, set())
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("trial 0: warm-up at step 0/24: lambda1=") and first.endswith("from abc@10")
    assert second.startswith("trial 0: finished at step 24/24, best 0.7500: lambda1=")


def test_a_plan_says_what_is_shared_and_what_would_be_if_more_were(
    squares: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs of 24 steps, 3.5 of them an epoch, guided from step 10 on."""
    show_plan(make_search(squares, tmp_path))
    assert "10.9 epochs, 13.7 without sharing warm-up: 0.792 of them (2 trials on 1 trunk;" in capsys.readouterr().out
    show_plan(make_search(squares, tmp_path, share_warmup=False))
    assert "1.000 of them (2 trials on 2 trunks;" in capsys.readouterr().out
    show_plan(make_search(squares, tmp_path, space={"align.lambda4": {"loguniform": [0.1, 1.0]}}))
    assert "note: align.lambda4 acts in warm-up" in capsys.readouterr().out
    assert not (tmp_path / "search").exists(), "a plan makes nothing"
