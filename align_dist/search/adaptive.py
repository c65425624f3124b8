"""Optuna's TPE by ask and tell. Its memory is the run folders: a restart tells it again what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna

from align_dist.errors import ConfigError
from align_dist.runs.status import State
from align_dist.schema.distributions import Choice, LogUniform, Uniform, Value, rounded
from align_dist.search.draw import draw
from align_dist.search.folders import Trial, trial_status
from align_dist.search.objective import Pareto, goodness_of, value_of
from align_dist.search.plan import Ended, Next
from align_dist.search.space import SearchConfig, with_values

ATTEMPTS = 1000
REPEATS = 10  # of a trial that there is already, before chance chooses


def adaptive(search: SearchConfig, trials: list[Trial], pending: Sequence[Trial]) -> tuple[Next, Ended]:
    """Trials that TPE chooses, after those of `pending`, which were begun before; each is added to `trials`."""
    study = _study(search, len(trials))
    asked: dict[int, optuna.trial.Trial] = {}
    begun = list(pending)

    def following() -> Trial | None:
        if begun:
            return begun.pop(0)
        if len(trials) >= search.samples:
            return None
        made = _propose(search, study, trials)
        if made is None:
            return None
        trial, asked[made[0].number] = made
        trials.append(trial)
        return trial

    def ended(trial: Trial) -> None:
        values = values_of(search, trial)
        if trial.number not in asked:
            _tell_earlier(search, study, trial)
        elif values is None:
            study.tell(asked[trial.number], state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(asked[trial.number], values)

    for trial in trials:
        if trial not in begun:
            _tell_earlier(search, study, trial)
    return following, ended


def values_of(search: SearchConfig, trial: Trial) -> list[float] | None:
    """What TPE is told of a trial, the more the better; None of one that has no number."""
    status = trial_status(trial.folder)
    chosen = status.chosen
    if chosen is None or status.state not in (State.FINISHED, State.STOPPED):
        return None  # one that diverged may have been good before
    if isinstance(search.objective, Pareto):
        return list(goodness_of(search.objective, chosen.metrics))
    return [value_of(search.objective, chosen.metrics)]


def _study(search: SearchConfig, begun: int) -> optuna.Study:
    """Seeded by how many trials there are, so that a restart does not draw the first ones again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=(search.seed * 1_000_003 + begun) % 2**32)
    directions = ["maximize"] * (2 if isinstance(search.objective, Pareto) else 1)
    return optuna.create_study(sampler=sampler, directions=directions)


def _propose(search: SearchConfig, study: optuna.Study, trials: list[Trial]) -> tuple[Trial, Any] | None:
    """The next trial that is a run and no earlier one; None where there seems to be none left."""
    taken, base = {trial.folder for trial in trials}, search.base()
    for attempt in range(ATTEMPTS):
        if attempt >= REPEATS:  # TPE names its few favourites again and again
            study.enqueue_trial(dict(draw(search.space, search.seed, len(trials), attempt)))
        asked = study.ask(_distributions(search))
        values = _within(search, asked.params)
        try:
            trial = Trial(len(trials), values, with_values(base, values))
        except ConfigError:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            continue
        if trial.folder not in taken:
            return trial, asked
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
    return None


def _tell_earlier(search: SearchConfig, study: optuna.Study, trial: Trial) -> None:
    values = values_of(search, trial)
    if values is not None:
        distributions = _distributions(search)
        study.add_trial(
            optuna.trial.create_trial(params=dict(trial.values), distributions=distributions, values=values)
        )


def _within(search: SearchConfig, drawn: dict[str, Any]) -> dict[str, Value]:
    """As a config takes them: numbers from a range to 4 significant digits."""
    values: dict[str, Value] = {}
    for key, distribution in search.space.items():
        value = drawn[key]
        if isinstance(distribution, LogUniform):
            value = rounded(value, *distribution.loguniform)
        elif isinstance(distribution, Uniform):
            value = rounded(value, *distribution.uniform)
        values[key] = value
    return values


def _distributions(search: SearchConfig) -> dict[str, optuna.distributions.BaseDistribution]:
    found: dict[str, optuna.distributions.BaseDistribution] = {}
    for key, distribution in search.space.items():
        if isinstance(distribution, Choice):
            found[key] = optuna.distributions.CategoricalDistribution(distribution.choice)
        else:
            low, high = distribution.extremes()
            found[key] = optuna.distributions.FloatDistribution(low, high, log=isinstance(distribution, LogUniform))
    return found
