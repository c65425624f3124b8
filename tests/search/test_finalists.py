"""The best trials on other seeds: the best is then so on the average."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from searches import write_search

from align_dist.config import RunConfig
from align_dist.errors import NonFiniteError, StorageError, UserError
from align_dist.runs.folder import RunFolder
from align_dist.search.finalists import confirmations_of, finalists_of, rank_finalists
from align_dist.search.folders import Trial
from align_dist.search.plan import random_trials
from align_dist.search.results import find_results, write_found
from align_dist.search.search import as_they_are
from align_dist.search.space import SearchConfig


def make_search(squares: RunConfig, path: Path, **changes: Any) -> SearchConfig:
    space = {"align.lambda1": {"loguniform": [0.5, 8.0]}}
    return write_search(squares, path, space=space, confirm={"finalists": 2, "seeds": 2}, **changes)[1]


def finish(trial: Trial, accuracy: float) -> None:
    trial.folder.mkdir(parents=True)
    told = json.dumps({"step": 16, "guided_epochs": 1.5, "metrics": {"accuracy": accuracy}})
    (trial.folder / "reports.jsonl").write_text(told + "\n")
    (trial.folder / "trial.json").write_text(told)


def test_the_luckiest_seed_does_not_win(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    trials = random_trials(search, 4)
    for trial, accuracy in zip(trials[:3], (0.5, 0.9, 0.8), strict=True):
        finish(trial, accuracy)
        assert confirmations_of(search, trials) == [], "not before every trial is over"
    finish(trials[3], 0.7)
    assert [trial.number for trial in finalists_of(search, trials)] == [1, 2]
    confirming = confirmations_of(search, trials)
    assert [(t.number, t.confirms, t.config.seed) for t in confirming] == [(4, 1, 1), (5, 2, 1), (6, 1, 2), (7, 2, 2)]
    assert len({trial.folder for trial in (*trials, *confirming)}) == 8
    assert (
        find_results(search, trials).best == 1
        and rank_finalists(search, trials, confirmations_of(search, trials)) == []
    )
    for trial, accuracy in zip(confirming, (0.3, 0.8, 0.6, 0.74), strict=True):
        finish(trial, accuracy)
    best, second = rank_finalists(search, trials, confirmations_of(search, trials))
    assert (best.number, best.chosen_on, list(best.others), best.mean) == (2, 0.8, [0.8, 0.74], pytest.approx(0.77))
    assert best.error == pytest.approx(0.03), "standard deviation 0.0424 over the root of 2"
    assert (second.number, second.mean) == (1, pytest.approx(0.45)), "what it was chosen for does not count"
    found = find_results(search, trials)
    assert found.best == 2 and [entry.seed for entry in found.confirmations] == [1, 1, 2, 2]
    folder = write_found(found)
    assert json.loads((folder / "search.json").read_text())["finalists"][0]["mean"] == 0.77
    written = (folder / "best.yaml").read_text()
    assert "seed: 0\n" in written and "objective 0.8000, 0.7700 ± 0.0300 over 2 other seeds on" in written


@pytest.mark.parametrize("error", [NonFiniteError, StorageError])
def test_one_that_fails_on_a_seed_comes_last(squares: RunConfig, tmp_path: Path, error: type[UserError]) -> None:
    search = make_search(squares, tmp_path)
    trials = random_trials(search, 4)
    for trial, accuracy in zip(trials, (0.5, 0.9, 0.8, 0.7), strict=True):
        finish(trial, accuracy)
    for trial in confirmations_of(search, trials):
        if trial.confirms == 1 and trial.config.seed == 2:
            trial.folder.mkdir(parents=True)
            RunFolder(trial.folder).end_badly(error.exit_code, "so it is")
        else:
            finish(trial, 0.6)
    assert [
        (made.number, made.failed) for made in rank_finalists(search, trials, confirmations_of(search, trials))
    ] == [(2, 0), (1, 1)]


def test_finalists_that_fail_on_every_other_seed_decide_nothing(squares: RunConfig, tmp_path: Path) -> None:
    search = make_search(squares, tmp_path)
    trials = random_trials(search, 4)
    for trial, accuracy in zip(trials, (0.5, 0.9, 0.8, 0.7), strict=True):
        finish(trial, accuracy)
    for trial in confirmations_of(search, trials):
        RunFolder(trial.folder).end_badly(NonFiniteError.exit_code, "not finite")
    found = find_results(search, trials)
    assert found.best == 1, "by the seed it was chosen on, there being no other"
    told = json.loads((write_found(found) / "search.json").read_text(), parse_constant=pytest.fail)
    assert [finalist["mean"] for finalist in told["finalists"]] == [None, None]
    assert found.finalists[0].in_words() == "failed on all of 2 other seeds"


def test_confirmations_are_a_search_as_rays_workers_read_it(squares: RunConfig, tmp_path: Path) -> None:
    """There are more of them than a space of choices has trials."""
    space = {"align.lambda4": {"choice": [0.0, 0.5]}}
    confirm = {"finalists": 2, "seeds": 2}
    _, search = write_search(squares, tmp_path, space=space, samples=2, confirm=confirm)
    known = as_they_are(search)
    assert SearchConfig.model_validate(known.model_dump(mode="json")) == known
