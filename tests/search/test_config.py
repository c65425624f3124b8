"""A search's description: one line for a mistake, any method's own space, and an objective that prefers the better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import raises

from align_dist.config import RunConfig, to_yaml
from align_dist.errors import ConfigError
from align_dist.schema.distributions import rounded
from align_dist.search.config import Objective, SearchConfig, load_search, parse_search
from align_dist.search.sampler import TrialSampler
from align_dist.search.trials import check_lengths


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
        "space.align.lambda1: takes one of loguniform, uniform, choice with a list, got {'normal': [0, 1]}",
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
    "a metric of localisation": ({"objective": {"kind": "pareto", "metric": "mask_iou"}}, "objective.metric: "),
    "a misspelt key of a part": ({"scheduler": {"factr": 2}}, "scheduler.factr: unknown key; did you mean factor?"),
    "an objective that is a word": ({"objective": "accuracy"}, "objective: takes a section of keys"),
    "an objective that there is not": ({"objective": {"kind": "acuracy"}}, "objective.kind: input should be 'acc"),
    "no weight": (
        {"objective": {"kind": "combined", "metric": "sufficiency"}},
        "objective: takes {kind: accuracy}, {kind: combined, metric: M, weight: W} or {kind: pareto, metric: M}",
    ),
    "the method": ({"space": {"method": {"choice": ["erm", "align"]}}}, "search each by itself, with method=NAME"),
    "another method's option": (
        {"overrides": ["method=dre"]},
        "space: align.lambda1: the run's method is dre; leave it out, or take method=align",
    ),
    "half a validation": (
        {"scheduler": {"kind": "asha", "grace_period": 1.5}},
        "scheduler.grace_period: input should be a valid int",
    ),
    "more finalists than trials": ({"confirm": {"finalists": 9}}, "confirm.finalists: 9 are more than the"),
    "two numbers for ASHA": (
        {"objective": {"kind": "pareto", "metric": "sufficiency"}, "scheduler": {"kind": "asha"}},
        "scheduler: asha ranks by one number",
    ),
    "rungs that end before they begin": (
        {"scheduler": {"kind": "asha", "grace_period": 3, "max": 2}},
        "scheduler.max: 2",
    ),
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
    for name in ("none", "list", "torn"):
        with raises(ConfigError, tmp_path / f"{name}.yaml"):
            load_search(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("path", sorted(Path("configs/search").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_ready_searches_are_possible(path: Path) -> None:
    search = load_search(path, {"samples": 8, "confirm": None})
    assert {trial.config.experiment for trial in TrialSampler(search).trials} == {search.experiment}


@pytest.mark.parametrize("method", ["align", "dre", "res", "groupdro", "rsc"])
def test_without_a_space_a_method_is_searched_where_its_options_say(description: dict[str, Any], method: str) -> None:
    del description["space"]
    search = parse_search(description | {"overrides": [*description["overrides"], f"method={method}"], "samples": 3})
    assert search.space and all(key.startswith(f"{method}.") for key in search.space)
    trials = TrialSampler(search).trials
    assert {trial.config.method for trial in trials} == {method} and len({trial.folder for trial in trials}) == 3


def test_a_method_that_leaves_nothing_open_has_no_space_of_its_own(description: dict[str, Any]) -> None:
    del description["space"]
    with raises(ConfigError, "space: "):
        parse_search(description | {"overrides": ["method=erm"]})
    rates = {"classifier.optimiser.learning_rate": {"loguniform": [1e-5, 1e-3]}}
    assert parse_search(description | {"overrides": ["method=erm"], "space": rates}).base().method == "erm"


METRICS = {"accuracy": 0.8, "sufficiency": 0.3, "comprehensiveness": 0.4, "insertion_auc": 0.6}


def test_better_explanations_are_worth_more_whichever_way_their_metric_goes() -> None:
    assert Objective().value(METRICS) == 0.8 and Objective().metrics == ("accuracy",)
    for metric, better in (("sufficiency", -0.1), ("comprehensiveness", 0.1), ("insertion_auc", 0.1)):
        improved = METRICS | {metric: METRICS[metric] + better}
        combined = Objective.model_validate({"kind": "combined", "metric": metric, "weight": 0.5})
        assert combined.value(improved) - combined.value(METRICS) == pytest.approx(0.05)
        pareto = Objective.model_validate({"kind": "pareto", "metric": metric})
        assert pareto.values(improved)[1] > pareto.values(METRICS)[1] and pareto.value(improved) == 0.8


def test_rounding_does_not_leave_the_bounds() -> None:
    assert rounded(0.333321, 0.33333, 1.0) == 0.33333
    assert rounded(1.99996, 0.0, 1.99995) == 1.99995
    assert rounded(123456.0, 0.0, 1e9) == 123500.0


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
    with raises(ConfigError, f"config: {tmp_path / 'run.yaml'}"):
        load_search(tmp_path / "run.yaml")


def test_overrides_of_the_command_line_come_after_the_files(description: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(description))
    search = load_search(path, {"samples": 1}, ["training.length=20 steps", "align.lambda2=0.7"])
    assert search.overrides[:-2] == tuple(description["overrides"])
    assert search.base().training.length == "20 steps" and search.base().model_dump()["align"]["lambda2"] == 0.7


def test_what_would_come_out_after_warmup_is_refused_before(description: dict[str, Any]) -> None:
    """24 steps with a validation after every eighth: two are left after the shorter warm-up."""
    late = parse_search(description | {"scheduler": {"kind": "asha", "grace_period": 3}})
    with raises(ConfigError, "scheduler.grace_period: ", 3):
        check_lengths(late, TrialSampler(late).trials)
