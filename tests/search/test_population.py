"""Population-based training: who copies whom, and that it all follows from the run folders."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranks import run_ranks
from searches import finish, start, wait_for, workers, write_search
from weights import assert_same_weights

from align_dist.config import RunConfig, load_config, to_yaml
from align_dist.errors import ConfigError, NonFiniteError, StorageError, UserError
from align_dist.search.distributions import Choice, LogUniform
from align_dist.search.folders import Trial, standing_of
from align_dist.search.generations import in_generations, read_generations
from align_dist.search.plan import LATER, known_trials
from align_dist.search.population import exchange, generation_ends, mutated
from align_dist.search.search import show_plan
from align_dist.search.space import SearchConfig
from align_dist.search.trunk import schedule_of
from align_dist.training.checkpoint import load_weights, save_checkpoint
from align_dist.training.run_folder import RunFolder

SPACE = {"objective.lambda1": {"loguniform": [0.01, 100.0]}, "objective.lambda4": {"choice": [0.0, 0.5, 1.0]}}


def make_search(squares: RunConfig, path: Path, **changes: Any) -> SearchConfig:
    """8 members; generations end at steps 16, 24, 32, 40 and at the run's end, 44."""
    overrides = ["training.length=44 steps", "training.warmup=8 steps", f"runs={path / 'runs'}"]
    values = {"algorithm": "pbt", "space": SPACE, "samples": 8, "overrides": overrides, "population": {"interval": 2}}
    return write_search(squares, path, **(values | changes))[1]


def distance(trial: Trial) -> float:
    """Of λ1 from 3, in decades."""
    return abs(math.log10(float(str(trial.values["objective.lambda1"])) / 3))


def pretend(trial: Trial, length: int) -> None:
    """Leaves what training to the segment's end leaves, of a trial that is the better the nearer its λ1 is to 3."""
    until = trial.config.training.until
    step = length if until is None else int(until.split()[0])
    told = json.dumps({"step": step, "guided_epochs": 1.0, "metrics": {"accuracy": 1 - distance(trial) / 4}})
    trial.folder.mkdir(parents=True, exist_ok=True)
    with (trial.folder / "reports.jsonl").open("a") as file:
        file.write(told + "\n")
    position = {"step": step, "validation": {}, "oracle": {}}
    selected = {"validation": {"step": step, "x": torch.ones(1) * trial.number}}
    state = {"identity": trial.config.identity, "position": position, "selected": selected}
    save_checkpoint(RunFolder(trial.folder).checkpoints, state)
    if until is None:
        (trial.folder / "trial.json").write_text(told)


def carry_on(search: SearchConfig, most: int = 1000, failing: tuple[int, int] | None = None) -> list[Trial]:
    """Trains up to so many segments, one at a time; returns the trials there have been by then.

    failing: the number of a trial that fails whenever it is started, and its exit code.
    """
    trials = known_trials(search)
    following, ended = in_generations(search, trials)
    for _ in range(most):
        trial = following()
        if not isinstance(trial, Trial):
            assert trial is None, "nothing runs, so there is nothing to wait for"
            break
        if failing is not None and trial.number == failing[0]:
            trial.folder.mkdir(parents=True, exist_ok=True)
            RunFolder(trial.folder).end_badly(failing[1], "so it is")
        else:
            pretend(trial, 44)
        ended(trial)
    return trials


def told(trials: Sequence[Trial]) -> list[tuple[Any, ...]]:
    return [(t.number, t.parent, t.since, sorted(t.values.items()), t.config.identity) for t in trials]


def test_members_come_nearer_to_what_is_best_and_their_configs_say_how(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    assert generation_ends(search, search.base()) == [16, 24, 32, 40, 44]
    trials = carry_on(search)
    first, last = read_generations(search)[0].members, read_generations(search)[-1].members
    assert len(trials) == 8 + 4 * 2, "a quarter of eight is replaced four times"
    assert sum(map(distance, last)) < 0.5 * sum(map(distance, first))
    states = {trial.number: standing_of(trial.folder).state for trial in trials}
    assert [states[trial.number] for trial in last] == ["finished"] * 8
    assert sorted(set(states.values())) == ["finished", "stopped"]
    for trial in trials[8:]:
        parent = trials[trial.parent or 0]
        *inherited, own = trial.config.objective.changes
        assert tuple(inherited) == parent.config.objective.changes
        assert own.at == f"{trial.since} steps" and own.lambdas["lambda1"] == trial.values["objective.lambda1"]
        assert trial.values != parent.values


@pytest.mark.parametrize("each", [5, 11])
def test_a_population_that_is_interrupted_is_the_same_population(squares: RunConfig, tmp_path: Path, each: int) -> None:
    whole, often = make_search(squares, tmp_path), make_search(squares, tmp_path, experiment="often")
    expected, starts = carry_on(whole), 0
    while not all(standing_of(trial.folder).over for trial in known_trials(often)):
        trials = carry_on(often, each)
        starts += 1
    assert starts > 3 and told(trials) == told(expected) == told(known_trials(often))
    reasons = [standing_of(trial.folder).reason for trial in expected]
    assert [standing_of(trial.folder).reason for trial in trials] == reasons
    assert all(reason.startswith("PBT: 0.") and "a copy of trial" in reason for reason in reasons if reason)


def test_a_copy_has_the_givers_past_and_a_damaged_half_of_it_is_made_again(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    trials = carry_on(search, 8)
    giver_of = {trial.number: trial for trial in trials}
    in_generations(search, known_trials(search))
    copies = known_trials(search)[8:]
    assert len(copies) == 2
    for copy in copies:
        assert copy.parent is not None
        state = load_weights(copy.folder / "checkpoints" / "last.ckpt")
        assert state["identity"] == copy.config.identity and state["position"]["step"] == copy.since == 16
        assert state["selected"]["validation"]["x"] == copy.parent
        reports = (giver_of[copy.parent].folder / "reports.jsonl").read_text()
        assert (copy.folder / "reports.jsonl").read_text() == reports
        (copy.folder / "checkpoints" / "last.ckpt").unlink()
    in_generations(search, known_trials(search))
    assert all((copy.folder / "checkpoints" / "last.ckpt").exists() for copy in copies)


@pytest.mark.parametrize("error", [NonFiniteError, StorageError])
def test_a_failed_member_is_replaced_and_nobody_copies_it(
    squares: RunConfig, tmp_path: Path, error: type[UserError]
) -> None:
    search = make_search(squares, tmp_path)
    trials = carry_on(search, failing=(5, error.exit_code))
    assert told(trials) == told(known_trials(search))
    assert "so it is" in standing_of(trials[5].folder).reason and standing_of(trials[5].folder).over
    assert 5 not in {trial.number for trial in read_generations(search)[1].members}
    assert len(read_generations(search)[-1].members) == 8
    assert 5 not in {trial.parent for trial in trials}


def test_a_population_of_which_all_failed_goes_nowhere(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    for trial in known_trials(search):
        trial.folder.mkdir(parents=True)
        RunFolder(trial.folder).end_badly(StorageError.exit_code, "the disk is full")
    assert len(read_generations(search)) == 1
    following, _ = in_generations(search, known_trials(search))
    trial = following()
    assert isinstance(trial, Trial) and trial.config.training.until == "16 steps", "another start may get over it"


def test_a_member_that_died_just_before_its_outcome_is_started_again(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    carry_on(search)
    member = read_generations(search)[-1].members[3]
    (member.folder / "trial.json").unlink()
    following, _ = in_generations(search, known_trials(search))
    again = following()
    assert isinstance(again, Trial) and again.number == member.number and again.config.training.until is None
    assert following() is LATER


def test_checkpoints_of_the_replaced_may_be_deleted(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    trials = carry_on(search, 20)
    for trial in trials:
        if standing_of(trial.folder).state == "stopped":
            shutil.rmtree(trial.folder / "checkpoints")
    assert told(known_trials(search)) == told(trials)


@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=12), st.floats(0.05, 0.5))
def test_the_worst_and_the_failed_take_from_the_best(scores: list[float | None], quantile: float) -> None:
    found = exchange(scores, quantile, "seed")
    assert found == exchange(scores, quantile, "seed")
    if all(score is None for score in scores):
        assert found == {}
        return
    assert {place for place, score in enumerate(scores) if score is None} <= found.keys()
    takers = [scores[place] for place in found if scores[place] is not None]
    givers = [scores[place] for place in found.values()]
    assert None not in givers and found.keys().isdisjoint(found.values())
    assert len(takers) <= math.ceil(quantile * len(scores))
    stay = [score for place, score in enumerate(scores) if score is not None and place not in found]
    assert all(taker <= other for taker in takers for other in stay)  # type: ignore[operator]


def test_a_step_in_lambda_is_a_fifth_within_the_bounds() -> None:
    space = {"a": LogUniform(loguniform=(1.0, 10.0)), "b": Choice(choice=(0.0, 0.3, 1.0))}
    found = [mutated(space, {"a": 9.0, "b": 0.3}, 0.0, str(seed)) for seed in range(40)]
    assert {made["a"] for made in found} == {7.2, 10.0} and {made["b"] for made in found} == {0.0, 1.0}
    fresh = [mutated(space, {"a": 9.0, "b": 0.3}, 1.0, str(seed))["a"] for seed in range(40)]
    assert len(set(fresh)) > 30 and all(1 <= float(str(value)) <= 10 for value in fresh)


def test_one_long_generation_is_refused(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path, population={"interval": 30})
    with pytest.raises(
        ConfigError, match=r"population.interval: 30 guided epochs and a validation every 8 steps leave"
    ):
        known_trials(search)


def test_a_plan_tells_generations(squares: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(make_search(squares, tmp_path))
    said = capsys.readouterr().out
    assert "8 members in 5 generations, which end at steps 16, 24, 32, 40, 44" in said
    assert said.count("from ") == 8


def test_a_killed_population_goes_on_and_a_copy_is_a_run_from_scratch(squares: RunConfig, tmp_path: Path) -> None:
    """Three members, two generations, through Ray; killed in the second."""
    overrides = ["training.length=24 steps", "training.warmup=8 steps", "training.validate_every=4 steps"]
    path, _ = write_search(
        squares,
        tmp_path,
        algorithm="pbt",
        population={"interval": 2},
        space={"objective.lambda1": {"loguniform": [0.01, 100.0]}, "objective.lambda3": {"uniform": [0.0, 4.0]}},
        samples=3,
        overrides=[*overrides, f"runs={tmp_path / 'runs'}"],
    )
    folder = tmp_path / "runs" / "search"
    process = start(path)
    wait_for(lambda: any("PBT" in made.read_text() for made in folder.glob("*/stopped.json")), process)
    wait_for(lambda: len(workers(tmp_path)) > 0, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, _, complained = finish(start(path))
    assert code == 0, complained
    found = json.loads((folder / "search.json").read_text())
    states = [trial["state"] for trial in found["trials"]]
    assert sorted(states) == ["finished"] * 3 + ["stopped"]
    (copy,) = [trial for trial in found["trials"] if trial["parent"] is not None]
    assert copy["since"] == 16 and copy["number"] == 3 and (folder / "lineage.png").exists()
    by_hand = load_config(Path(copy["folder"]) / "config.yaml", [f"runs={tmp_path / 'scratch'}"])
    assert [change.at for change in by_hand.objective.changes] == ["16 steps"]
    (tmp_path / "scratch.yaml").write_text(to_yaml(by_hand))
    run_ranks(1, ["-m", "align_dist.cli", "train", str(tmp_path / "scratch.yaml")])
    assert "resuming at step 16 of 24" in (Path(copy["folder"]) / "trial.log").read_text(), "not from its trunk"
    for selection in ("last", "validation"):
        assert_same_weights(by_hand.folder, Path(copy["folder"]), selection)
    metrics = [json.loads(line) for line in (by_hand.folder / "metrics.jsonl").read_text().splitlines()]
    shown = {line["step"]: line["objective/lambda1"] for line in metrics if "objective/lambda1" in line}
    assert shown[16] == found["trials"][copy["parent"]]["values"]["objective.lambda1"]
    assert shown[18] == copy["values"]["objective.lambda1"]
    epoch, cost = schedule_of(by_hand).epoch, found["cost"]
    assert cost["epochs_without_sharing"] == pytest.approx((2 * 24 + 16 + 8) / epoch, abs=0.01)
    assert cost["epochs_with_sharing"] == pytest.approx((8 + 2 * 16 + 8 + 8) / epoch, abs=0.01)
