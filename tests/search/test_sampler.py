"""One study for random and TPE, whose memory is the run folders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from refusals import raises
from searches import record, write_search

from align_dist.config import RunConfig
from align_dist.errors import ConfigError, NonFiniteError
from align_dist.runs.folder import RunFolder
from align_dist.search.config import SearchConfig
from align_dist.search.sampler import TrialSampler, values_of
from align_dist.search.trials import Trial

LAMBDA1 = {"align.lambda1": {"loguniform": [0.01, 100]}}
SPACE = {**LAMBDA1, "align.lambda4": {"choice": [0.0, 1.0]}}
CHOICES = {key: {"choice": [0.5, 1.0, 2.0, 4.0]} for key in ("align.lambda1", "align.lambda3")}


def search_of(squares: RunConfig, path: Path, **changes: Any) -> SearchConfig:
    return write_search(squares, path, **{"space": SPACE, **changes})[1]


def distance(trial: Trial) -> float:
    """Of λ1 from 3, in decades."""
    return abs(math.log10(float(str(trial.values["align.lambda1"])) / 3))


def go_on(search: SearchConfig, count: int) -> list[Trial]:
    """So many more trials of a new sampler, each finished before the next; the nearer λ1 is to 3 the better."""
    sampler, trials = TrialSampler(search), list[Trial]()
    while len(trials) < count:
        trial = sampler.ask()
        assert trial is not None
        record(search, trial, {16: 1 - distance(trial) / 4})
        sampler.tell(trial)
        trials.append(trial)
    return trials


def test_tpe_learns_from_what_the_folders_say_over_a_restart(squares: RunConfig, tmp_path: Path) -> None:
    search = search_of(squares, tmp_path, algorithm="tpe", samples=50)
    blind, first, second = go_on(search, 10), go_on(search, 20), go_on(search, 20)
    every = [*blind, *first, *second]
    assert [trial.number for trial in every] == list(range(50))
    assert len({trial.folder for trial in every}) == 50
    # By chance λ1 is 1.03 decades away on average.
    assert sum(map(distance, first)) / 20 < 0.7 and sum(map(distance, second)) / 20 < 0.7


def test_tpe_knows_what_was_begun_and_ends_at_the_number_of_samples(squares: RunConfig, tmp_path: Path) -> None:
    search = search_of(squares, tmp_path, algorithm="tpe", samples=4)
    trials = go_on(search, 3)
    RunFolder(trials[0].folder).trained.unlink()
    sampler = TrialSampler(search)
    assert sampler.trials == trials
    fresh = sampler.ask()
    assert fresh is not None and fresh.number == 3
    assert sampler.ask() is None and sampler.trials == [*trials, fresh]


def test_a_space_of_choices_is_used_up(squares: RunConfig, tmp_path: Path) -> None:
    """TPE alone names its favourites again and again, and came to eleven of sixteen."""
    search = search_of(squares, tmp_path, algorithm="tpe", samples=16, space=CHOICES)
    assert len({tuple(trial.values.values()) for trial in go_on(search, 16)}) == 16
    assert TrialSampler(search.model_copy(update={"samples": 17})).ask() is None, "there is no seventeenth"


def test_a_study_is_told_what_selected_weights_scored_and_nothing_of_what_diverged(
    squares: RunConfig, tmp_path: Path
) -> None:
    search = search_of(squares, tmp_path, samples=4)
    finished, stopped, diverged, warm = TrialSampler(search).trials
    record(search, finished, {12: 0.8, 16: 0.7})
    record(search, stopped, {12: 0.6, 14: 0.6}, ends=False)
    RunFolder(stopped.folder).stop("ASHA")
    record(search, diverged, {12: 0.9}, ends=False)
    RunFolder(diverged.folder).record_ending(NonFiniteError.exit_code, "classifier/guidance is not finite")
    record(search, warm, {4: 0.9}, ends=False)
    RunFolder(warm.folder).stop("in warm-up")
    assert [values_of(search, trial) for trial in (finished, stopped, diverged, warm)] == [[0.8], [0.6], None, None]


def test_random_trials_are_the_same_ones_after_a_restart_whatever_has_happened(
    squares: RunConfig, tmp_path: Path
) -> None:
    search = search_of(squares, tmp_path, samples=8)
    trials = TrialSampler(search).trials
    assert len({trial.folder for trial in trials}) == 8
    assert TrialSampler(search.model_copy(update={"samples": 4})).trials == trials[:4]
    record(search, trials[5], {16: 0.9})
    assert TrialSampler(search).trials == trials
    assert TrialSampler(search.model_copy(update={"space": dict(reversed(search.space.items()))})).trials == trials
    assert TrialSampler(search.model_copy(update={"seed": 1})).trials != trials


def test_random_trials_fill_their_space_to_four_digits(squares: RunConfig, tmp_path: Path) -> None:
    trials = TrialSampler(search_of(squares, tmp_path, samples=200)).trials
    lambdas = [float(str(trial.values["align.lambda1"])) for trial in trials]
    assert all(0.01 <= value <= 100 and float(f"{value:.4g}") == value for value in lambdas)
    for low in (0.01, 0.1, 1, 10):
        assert 30 < sum(low <= value < low * 10 for value in lambdas) < 70
    assert 75 < sum(trial.values["align.lambda4"] == 1.0 for trial in trials) < 125


def test_what_makes_no_run_is_no_trial(squares: RunConfig, tmp_path: Path) -> None:
    """A run of 12 steps cannot have a warm-up of 14."""
    space = {
        "training.length": {"choice": ["12 steps", "24 steps"]},
        "training.warmup": {"choice": ["4 steps", "8 steps", "14 steps"]},
    }
    trials = TrialSampler(search_of(squares, tmp_path, samples=5, space=space)).trials
    assert ("12 steps", "14 steps") not in {tuple(trial.values.values()) for trial in trials}
    with raises(ConfigError, "samples: ", 6, 5):
        TrialSampler(search_of(squares, tmp_path, samples=6, space=space))
