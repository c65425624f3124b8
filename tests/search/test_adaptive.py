"""TPE's memory is the run folders."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from align_dist.config import RunConfig, to_yaml
from align_dist.errors import NonFiniteError
from align_dist.runs.folder import RunFolder
from align_dist.schema.distributions import Choice
from align_dist.search.adaptive import adaptive, values_of
from align_dist.search.folders import Trial, mark_suggested
from align_dist.search.plan import begun_trials
from align_dist.search.space import SearchConfig, parse_search


@pytest.fixture
def search(squares: RunConfig, tmp_path: Path) -> SearchConfig:
    (tmp_path / "run.yaml").write_text(to_yaml(squares))
    return parse_search(
        {
            "config": str(tmp_path / "run.yaml"),
            "overrides": [f"runs={tmp_path}"],
            "experiment": "search",
            "algorithm": "tpe",
            "samples": 50,
            "space": {"align.lambda1": {"loguniform": [0.01, 100]}, "align.lambda4": {"choice": [0.0, 1.0]}},
        }
    )


def distance(trial: Trial) -> float:
    """Of λ1 from 3, in decades."""
    return abs(math.log10(float(str(trial.values["align.lambda1"])) / 3))


def finish(trial: Trial) -> None:
    """As a trial that is the better the nearer its λ1 is to 3."""
    mark_suggested(trial)
    told = json.dumps({"step": 24, "guided_epochs": 3.0, "metrics": {"accuracy": 1 - distance(trial) / 4}})
    (trial.folder / "reports.jsonl").write_text(told + "\n")
    (trial.folder / "trial.json").write_text(told)


def carry_on(search: SearchConfig, count: int) -> list[Trial]:
    """So many more trials, each finished before the next is chosen."""
    trials, made = begun_trials(search), list[Trial]()
    following, ended = adaptive(search, trials, [])
    while len(made) < count:
        trial = following()
        assert trial is not None
        finish(trial)
        ended(trial)
        made.append(trial)
    return made


def test_it_learns_from_what_the_folders_say_over_a_restart(search: SearchConfig) -> None:
    blind, first, second = carry_on(search, 10), carry_on(search, 20), carry_on(search, 20)
    every = [*blind, *first, *second]
    assert [trial.number for trial in every] == list(range(50))
    assert len({trial.folder for trial in every}) == 50
    # λ1 drawn blindly is 1.03 decades away on average.
    assert sum(map(distance, first)) / 20 < 0.7 and sum(map(distance, second)) / 20 < 0.7


def test_it_goes_on_with_what_was_begun_and_ends_at_the_number_of_samples(search: SearchConfig) -> None:
    (begun, *_) = carry_on(search, 3)
    (begun.folder / "trial.json").unlink()
    few = search.model_copy(update={"samples": 4})
    trials = begun_trials(few)
    following, _ = adaptive(few, trials, [trials[0]])
    assert following() == trials[0]
    fresh = following()
    assert fresh is not None and fresh.number == 3
    assert following() is None and len(trials) == 4


def test_a_space_of_choices_is_used_up(search: SearchConfig) -> None:
    """TPE alone names its favourites again and again, and came to eleven of sixteen."""
    keys = ("align.lambda1", "align.lambda3")
    choices = {key: Choice(choice=(0.5, 1.0, 2.0, 4.0)) for key in keys}
    small = search.model_copy(update={"samples": 16, "space": choices})
    made = carry_on(small, 16)
    assert len({(trial.values[keys[0]], trial.values[keys[1]]) for trial in made}) == 16
    following, _ = adaptive(small.model_copy(update={"samples": 17}), begun_trials(small), [])
    assert following() is None, "there is no seventeenth"


def test_what_diverged_is_no_success_however_good_it_was_before(search: SearchConfig) -> None:
    (trial,) = carry_on(search, 1)
    assert values_of(search, trial) is not None
    (trial.folder / "trial.json").unlink()
    RunFolder(trial.folder).end_badly(NonFiniteError.exit_code, "classifier/guidance is not finite")
    assert values_of(search, trial) is None
