"""The best trials on other seeds, and the front of a Pareto search: from run folders alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from searches import record, write_search

from align_dist.config import RunConfig
from align_dist.errors import NonFiniteError, StorageError, UserError
from align_dist.runs.folder import RunFolder
from align_dist.runs.warmup import cost_of
from align_dist.search.config import SearchConfig
from align_dist.search.plots import draw_plots
from align_dist.search.results import as_json, read_results, write_results
from align_dist.search.sampler import TrialSampler
from align_dist.search.trials import Trial, confirmations_of

LAMBDA1 = {"align.lambda1": {"loguniform": [0.5, 8.0]}}


def confirmed_search(squares: RunConfig, path: Path, scores: Sequence[float]) -> tuple[SearchConfig, list[Trial]]:
    """A search of four trials that confirms two on two seeds each, and its trials, the first with these scores."""
    _, search = write_search(squares, path, space=LAMBDA1, confirm={"finalists": 2, "seeds": 2})
    trials = TrialSampler(search).trials
    for trial, score in zip(trials, scores, strict=False):
        record(search, trial, {16: score})
    return search, trials


def test_the_luckiest_seed_does_not_win(squares: RunConfig, tmp_path: Path) -> None:
    search, trials = confirmed_search(squares, tmp_path, (0.5, 0.9, 0.8))
    assert confirmations_of(search, trials) == [], "not before every trial is over"
    record(search, trials[3], {16: 0.7})
    confirming = confirmations_of(search, trials)
    assert [(t.number, t.confirms, t.config.seed) for t in confirming] == [(4, 1, 1), (5, 2, 1), (6, 1, 2), (7, 2, 2)]
    assert len({trial.folder for trial in (*trials, *confirming)}) == 8
    results = read_results(search, trials)
    assert results.best == 1 and results.finalists == []
    for trial, score in zip(confirming, (0.3, 0.8, 0.6, 0.74), strict=True):
        record(search, trial, {16: score})
    results = read_results(search, trials)
    best, second = results.finalists
    assert (best.number, best.selected_on, list(best.others), best.mean) == (2, 0.8, [0.8, 0.74], 0.77)
    assert best.error == pytest.approx(0.03), "standard deviation 0.0424 over the root of 2"
    assert (second.number, second.mean) == (1, 0.45), "the seed of selection does not count"
    assert results.best == 2 and [entry.trial.config.seed for entry in results.confirmations] == [1, 1, 2, 2]
    write_results(results)
    assert json.loads((search.folder() / "search.json").read_text())["finalists"][0]["mean"] == 0.77
    written = (search.folder() / "best.yaml").read_text()
    assert "seed: 0\n" in written and "source validation 0.8, 0.7700 ± 0.0300 over 2 other seeds" in written


@pytest.mark.parametrize("error", [NonFiniteError, StorageError])
def test_one_that_fails_on_a_seed_comes_last(squares: RunConfig, tmp_path: Path, error: type[UserError]) -> None:
    search, trials = confirmed_search(squares, tmp_path, (0.5, 0.9, 0.8, 0.7))
    for trial in confirmations_of(search, trials):
        if trial.confirms == 1 and trial.config.seed == 2:
            RunFolder(trial.folder).record_ending(error.exit_code, "so it is")
        else:
            record(search, trial, {16: 0.6})
    assert [(f.number, f.failed) for f in read_results(search, trials).finalists] == [(2, 0), (1, 1)]


def test_finalists_that_fail_on_every_other_seed_decide_nothing(squares: RunConfig, tmp_path: Path) -> None:
    search, trials = confirmed_search(squares, tmp_path, (0.5, 0.9, 0.8, 0.7))
    for trial in confirmations_of(search, trials):
        RunFolder(trial.folder).record_ending(NonFiniteError.exit_code, "not finite")
    results = read_results(search, trials)
    assert results.best == 1, "by the seed of selection, there being no other"
    plain = json.loads(json.dumps(as_json(results)), parse_constant=pytest.fail)
    assert [finalist["mean"] for finalist in plain["finalists"]] == [None, None]
    assert str(results.finalists[0]) == "failed over 2 other seeds"


def test_a_pareto_search_has_a_front_of_all_trials_and_a_config_for_each_on_it(
    squares: RunConfig, tmp_path: Path
) -> None:
    objective = {"kind": "pareto", "metric": "sufficiency"}
    _, search = write_search(squares, tmp_path, space=LAMBDA1, samples=4, objective=objective)
    trials, folder = TrialSampler(search).trials, search.folder()
    scores = [(0.9, 0.5), (0.8, 0.6), (0.7, 0.1)]  # of sufficiency less is better: the second is beaten
    for trial, (accuracy, sufficiency) in zip(trials, scores, strict=False):
        record(search, trial, {16: accuracy}, sufficiency=sufficiency)
    assert read_results(search, trials).front == [2, 0]
    write_results(read_results(search, trials))
    assert sorted(path.name for path in folder.glob("front-*.yaml")) == ["front-0000.yaml", "front-0002.yaml"]
    draw_plots(search, trials)
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG")
    record(search, trials[3], {16: 0.95}, sufficiency=0.05)
    write_results(read_results(search, trials))
    assert [path.name for path in folder.glob("front-*.yaml")] == ["front-0003.yaml"]


def test_the_cost_counts_a_shared_warmup_once(squares: RunConfig, tmp_path: Path) -> None:
    """Runs of 16 steps, guided from step 10 on, 3.5 steps an epoch; the second trial was stopped after 12."""
    _, search = write_search(squares, tmp_path, space=LAMBDA1, samples=2)
    trials = TrialSampler(search).trials
    configs = [trial.config for trial in trials]
    cost = cost_of(configs, [16, 12])
    assert (cost.alone, cost.sharing) == (pytest.approx(28 / 3.5), pytest.approx((10 + 6 + 2) / 3.5))
    alone = cost_of(configs, [16, 12], shared=False)
    assert alone.sharing == alone.alone == cost.alone


def test_what_lacks_the_objectives_metric_is_failed_and_says_why(squares: RunConfig, tmp_path: Path) -> None:
    objective: dict[str, Any] = {"kind": "combined", "metric": "insertion_auc", "weight": 1}
    _, search = write_search(squares, tmp_path, space=LAMBDA1, samples=2, objective=objective)
    plain, explained = TrialSampler(search).trials
    record(search, plain, {16: 0.9})
    record(search, explained, {16: 0.8}, insertion_auc=0.5)
    results = read_results(search, [plain, explained])
    assert results.best == 1 and results.entries[1].objective == 1.3
    assert "lack the objective's metrics" in results.entries[0].reason
