"""The source of a search's next trial: one Optuna study, by ask and tell, whose memory is the run folders."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from align_dist.errors import ConfigError
from align_dist.runs.status import State
from align_dist.schema.distributions import Choice, LogUniform, Value, rounded
from align_dist.search.config import SearchConfig, with_values
from align_dist.search.trials import Trial, begun_trials, trial_status

ATTEMPTS = 1000
REPEATS = 10  # of a trial that there is already, before chance chooses
NUMBER = "number"  # of a trial in the search, where a study numbers otherwise


class TrialSampler:
    """Trials that a random sampler or TPE proposes, all of them different runs.

    trials: those known so far: all of a random search, whose first asks they are, the same after every restart; of TPE
    those begun before, whose scores are told again, and those asked since. Raises ConfigError where the space does not
    hold so many.
    """

    def __init__(self, search: SearchConfig) -> None:
        adaptive = search.algorithm == "tpe"
        self.trials: list[Trial] = begun_trials(search) if adaptive else []
        # Of how many trials there are, so that a restart of TPE does not ask for the first ones again.
        seed = (search.seed * 1_000_003 + len(self.trials)) % 2**32
        self._search, self._base = search, search.base()
        self._chance: BaseSampler = RandomSampler(seed=seed)
        self._sampler = TPESampler(seed=seed) if adaptive else self._chance
        self._study = study_of(search, self.trials, self._sampler)
        self._proposals: dict[int, optuna.Trial] = {}
        while not adaptive and len(self.trials) < search.samples:
            if self.ask() is None:
                many = f"{search.samples} are more different trials than the space holds"
                raise ConfigError(f"samples: {many}; it gave {len(self.trials)}")

    def ask(self) -> Trial | None:
        """The next trial that is a run and no earlier one; None where there are all, or seem to be no others."""
        if len(self.trials) >= self._search.samples:
            return None
        folders, distributions = {trial.folder for trial in self.trials}, distributions_of(self._search)
        for attempt in range(ATTEMPTS):
            # TPE names its few favourites again and again.
            self._study.sampler = self._sampler if attempt < REPEATS else self._chance
            proposal = self._study.ask(distributions)
            trial = self._as_trial(proposal.params)
            if trial is not None and trial.folder not in folders:
                self.trials.append(trial)
                self._proposals[trial.number] = proposal
                return trial
            self._study.tell(proposal, state=TrialState.FAIL)
        return None

    def tell(self, trial: Trial) -> None:
        """Tell the study the score of a trial that has ended for now."""
        values, proposal = values_of(self._search, trial), self._proposals.pop(trial.number, None)
        if proposal is not None:
            self._study.tell(proposal, values, state=TrialState.COMPLETE if values else TrialState.FAIL)
        elif values is not None:
            self._study.add_trial(_frozen(self._search, trial, values))

    def _as_trial(self, params: dict[str, Any]) -> Trial | None:
        """A trial with these values, numbers from a range to 4 significant digits; None where they make no run."""
        values: dict[str, Value] = {}
        for key, space in self._search.space.items():
            values[key] = params[key] if isinstance(space, Choice) else rounded(params[key], *space.extremes())
        with suppress(ConfigError):  # such as a warm-up and a length that do not go together
            return Trial(len(self.trials), values, with_values(self._base, values))
        return None


def values_of(search: SearchConfig, trial: Trial) -> list[float] | None:
    """Values of a trial for a study, the more the better: the score of the weights that were selected, so far for a
    stopped one; None of one that has none.
    """
    status = trial_status(trial, search.objective)
    if not status.metrics or status.state not in (State.TRAINED, State.STOPPED):
        return None  # one that diverged may have been good before
    return search.objective.values(status.metrics)


def study_of(search: SearchConfig, trials: Iterable[Trial], sampler: BaseSampler | None = None) -> optuna.Study:
    """A study of the trials that have scored, in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = ["maximize"] * (2 if search.objective.kind == "pareto" else 1)
    study = optuna.create_study(sampler=sampler, directions=directions)
    scored = [(trial, values_of(search, trial)) for trial in trials]
    study.add_trials([_frozen(search, trial, values) for trial, values in scored if values is not None])
    return study


def distributions_of(search: SearchConfig) -> dict[str, BaseDistribution]:
    """The space as Optuna has it; by key, on whose order a seed's trials depend."""
    return {
        key: CategoricalDistribution(space.choice)
        if isinstance(space, Choice)
        else FloatDistribution(*space.extremes(), log=isinstance(space, LogUniform))
        for key, space in sorted(search.space.items())
    }


def _frozen(search: SearchConfig, trial: Trial, values: list[float]) -> FrozenTrial:
    number, params = {NUMBER: trial.number}, dict(trial.values)
    return create_trial(params=params, distributions=distributions_of(search), values=values, user_attrs=number)
