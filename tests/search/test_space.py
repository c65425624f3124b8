"""A search's description: one line for a mistake, and the same draws whatever else is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from align_dist.config import RunConfig, to_yaml
from align_dist.errors import ConfigError
from align_dist.schema.distributions import Choice, LogUniform, Uniform, rounded
from align_dist.search.draw import draw
from align_dist.search.plan import check_trials, random_trials
from align_dist.search.space import SearchConfig, load_search, parse_search


@pytest.fixture
def description(squares: RunConfig, tmp_path: Path) -> dict[str, Any]:
    base = tmp_path / "run.yaml"
    base.write_text(to_yaml(squares))
    return {
        "config": str(base),
        "overrides": [f"runs={tmp_path}"],
        "experiment": "search",
        "samples": 1,
        "space": {
            "align.lambda1": {"loguniform": [0.1, 10]},
            "align.lambda4": {"choice": [0.0, 0.5]},
            "training.warmup": {"choice": ["4 steps", "8 steps"]},
        },
    }


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a key that is none": ({"sampels": 4}, "sampels: unknown key; did you mean samples?"),
    "a setting that is none": (
        {"space": {"align.lamda1": {"uniform": [0, 1]}}},
        "space: unknown key align.lamda1; did you mean align.lambda1?",
    ),
    "a kind that is none": (
        {"space": {"align.lambda1": {"normal": [0, 1]}}},
        "space: align.lambda1 takes one of loguniform, uniform, choice with a list, got {'normal': [0, 1]}",
    ),
    "the wrong order": ({"space": {"align.lambda1": {"uniform": [2, 1]}}}, "low < high"),
    "the logarithm of nothing": ({"space": {"align.lambda1": {"loguniform": [0, 1]}}}, "greater than 0"),
    "no choice": ({"space": {"align.lambda1": {"choice": []}}}, "at least 1 item"),
    "a value that a run does not take": (
        {"space": {"align.lambda1": {"uniform": [-1, 1]}}},
        "space: align.lambda1: -1.0 makes no run",
    ),
    "a warm-up longer than the run": (
        {"space": {"training.warmup": {"choice": ["30 steps"]}}},
        "space: training.warmup: '30 steps' makes no run: training.warmup: 30 steps is longer than the run",
    ),
    "the protocol": ({"space": {"protocol.source": {"choice": ["bright"]}}}, "cannot be searched: who trains on what"),
    "the pictures": ({"space": {"benchmark.quality": {"choice": [1]}}}, "cannot be searched: the pictures"),
    "the yardstick": ({"space": {"evaluation.fill": {"choice": ["blur"]}}}, "cannot be searched: how trials"),
    "the seed": ({"space": {"seed": {"choice": [1, 2]}}}, "the luckiest seed is no setting"),
    "the engine": ({"space": {"distributed.engine": {"choice": ["ddp"]}}}, "changes nothing but speed"),
    "what only shows": ({"space": {"training.log_every": {"choice": [1, 2]}}}, "changes nothing of a run's result"),
    "more trials than there are": (
        {"samples": 3, "space": {"align.lambda4": {"choice": [0.0, 0.5]}}},
        "samples: 3 are more than the 2 different trials of this space",
    ),
    "nothing at all": ({"space": {}}, "space: nothing varies"),
    "a target": ({"objective": {"kind": "accuracy", "domain": "dark"}}, "domain: unknown key"),
    "a metric of localisation": ({"objective": {"kind": "pareto", "metric": "mask_iou"}}, "objective.pareto.metric"),
    "a misspelt key of a part": ({"scheduler": {"factr": 2}}, "scheduler.factr: unknown key; did you mean factor?"),
    "an objective that is a word": ({"objective": "accuracy"}, "objective: takes {kind: accuracy}, {kind: combined"),
    "an objective that there is not": ({"objective": {"kind": "acuracy"}}, "objective: takes {kind: accuracy}, "),
    "no weight": ({"objective": {"kind": "combined", "metric": "sufficiency"}}, "weight: missing; takes {kind"),
    "another method": ({"overrides": ["method=erm"]}, "overrides: method: a search is for ALIGN; leave it out"),
    "more finalists than trials": ({"confirm": {"finalists": 9}}, "confirm.finalists: 9 are more than the"),
    "two numbers for ASHA": (
        {"objective": {"kind": "pareto", "metric": "sufficiency"}, "scheduler": {"kind": "asha"}},
        "scheduler: asha ranks by one number",
    ),
    "rungs that end before they begin": ({"scheduler": {"kind": "asha", "grace": 3, "max": 2}}, "scheduler.max: 2"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(description: dict[str, Any], mistake: str) -> None:
    change, expected = MISTAKES[mistake]
    with pytest.raises(ConfigError) as caught:
        parse_search(description | change)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_search_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "torn.yaml").write_text("a: [\n")
    for name, expected in {"none": "no such search", "list": "not a search", "torn": "not a readable search"}.items():
        with pytest.raises(ConfigError, match=expected) as caught:
            load_search(tmp_path / f"{name}.yaml")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted(Path("configs/search").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_ready_searches_are_possible(path: Path) -> None:
    search = load_search(path)
    trials = random_trials(search, 8)
    assert {trial.config.experiment for trial in trials} == {search.experiment}
    assert all(trial.config.method == "align" for trial in trials)


def test_draws_depend_on_nothing_but_seed_number_and_key() -> None:
    small = {"a": LogUniform(loguniform=(0.1, 10.0))}
    large = {"b": Choice(choice=(1, 2, 3)), **small, "c": Uniform(uniform=(0, 1))}
    for number in range(20):
        assert draw(small, 5, number)["a"] == draw(large, 5, number)["a"]
    assert draw(small, 5, 0) != draw(small, 6, 0)
    assert draw(small, 0, 0)["a"] == 2.085, "drawn on another day: searches of old go on"


def test_draws_fill_their_range_and_stay_in_it() -> None:
    space = {
        "log": LogUniform(loguniform=(0.001, 1000.0)),
        "flat": Uniform(uniform=(-1, 1)),
        "one": Choice(choice=(1, 2)),
    }
    drawn = [draw(space, 0, number) for number in range(2000)]
    logs = [float(str(values["log"])) for values in drawn]
    assert all(0.001 <= value <= 1000 for value in logs)
    for low in (0.001, 0.1, 10):
        assert 500 < sum(low <= value < low * 100 for value in logs) < 833
    assert 900 < sum(values["one"] == 1 for values in drawn) < 1100
    assert all(len(f"{value:e}".split("e")[0].rstrip("0").replace(".", "")) <= 4 for value in logs)


def test_rounding_does_not_leave_the_bounds() -> None:
    assert rounded(0.333321, 0.33333, 1.0) == 0.33333
    assert rounded(1.99996, 0.0, 1.99995) == 1.99995
    assert rounded(123456.0, 0.0, 1e9) == 123500.0


def test_random_trials_are_all_different_and_the_first_of_more(description: dict[str, Any]) -> None:
    search = parse_search(description)
    eight, four = random_trials(search, 8), random_trials(search, 4)
    assert eight[:4] == four
    assert len({trial.folder for trial in eight}) == 8
    few = parse_search(description | {"samples": 2, "space": {"align.lambda4": {"choice": [0.0, 0.5]}}})
    assert {trial.values["align.lambda4"] for trial in random_trials(few, 2)} == {0.0, 0.5}
    with pytest.raises(ConfigError, match="3 are more different trials than the space holds; it gave 2"):
        random_trials(few, 3)


def test_what_has_nothing_to_do_with_trials_is_no_part_of_a_search(description: dict[str, Any]) -> None:
    first: SearchConfig = parse_search(description)
    assert (
        parse_search(description | {"samples": 99, "concurrency": 1, "cpus_per_trial": 2}).identity()
        == first.identity()
    )
    for change in ({"seed": 1}, {"objective": {"kind": "combined", "metric": "sufficiency", "weight": 1}}):
        assert parse_search(description | change).identity() != first.identity()


def test_a_run_that_is_given_as_a_search_is_told_so(squares: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(to_yaml(squares))
    with pytest.raises(ConfigError, match=r"run.yaml: a run's config, not a search; a search names it as `config: "):
        load_search(tmp_path / "run.yaml")


def test_overrides_of_the_command_line_come_after_the_files(description: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(description))
    search = load_search(path, {"samples": 1}, ["training.length=20 steps", "align.lambda2=0.7"])
    assert search.overrides[:-2] == tuple(description["overrides"])
    assert search.base().training.length == "20 steps" and search.base().model_dump()["align"]["lambda2"] == 0.7


def test_what_would_come_out_after_warmup_is_refused_before(description: dict[str, Any]) -> None:
    late = parse_search(description | {"scheduler": {"kind": "asha", "grace": 99}})
    with pytest.raises(ConfigError, match=r"scheduler.grace: 99 guided epochs are no less than any trial has"):
        check_trials(late, random_trials(late, 1))
