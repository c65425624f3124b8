"""The best trials once more, on other seeds: the best of many on one seed is mostly the luckiest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING

from align_dist.runs.status import State
from align_dist.search.folders import Trial, TrialStatus, trial_status
from align_dist.search.objective import value_of
from align_dist.search.space import SearchConfig

if TYPE_CHECKING:
    from rich.table import Table


ENDED = (State.FINISHED, State.STOPPED, State.FAILED)


@dataclass(frozen=True)
class Finalist:
    """A trial's number, its objective on the seed it was chosen on, and on each other that it came to the end of.
    failed: on how many of those it did not.
    """

    number: int
    chosen_on: float
    others: Sequence[float]
    failed: int = 0

    @property
    def mean(self) -> float:
        """Over the other seeds: the one it was chosen on was luckier than they are. −∞ of none."""
        return mean(self.others) if self.others else -math.inf

    @property
    def error(self) -> float | None:
        """The standard error of the mean; None of one seed."""
        return stdev(self.others) / math.sqrt(len(self.others)) if len(self.others) > 1 else None

    def rounded_mean(self) -> float | None:
        """As JSON takes it."""
        return round(self.mean, 6) if self.others else None

    def in_words(self) -> str:
        """Such as `0.9611 ± 0.0061 over 2 other seeds`."""
        if not self.others:
            return f"failed on all of {self.failed} other seeds"
        error = "" if self.error is None else f" ± {self.error:.4f}"
        return f"{self.mean:.4f}{error} over {len(self.others)} other seed{'s' * (len(self.others) != 1)}"


def finalists_of(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The best finished trials; none before every trial has ended, or where the search confirms none."""
    statuses = [(trial, trial_status(trial.folder)) for trial in trials]
    if search.confirm is None or len(trials) < search.samples or any(s.state not in ENDED for _, s in statuses):
        return []
    finished = [(trial, found) for trial, found in statuses if found.state is State.FINISHED]
    ranked = sorted(finished, key=lambda pair: (-_objective(search, pair[1]), pair[0].number))
    return [trial for trial, _ in ranked[: search.confirm.finalists]]


def confirmations_of(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The finalists on the seeds that follow the base run's, numbered on from the trials; seed by seed."""
    chosen = finalists_of(search, trials)
    if search.confirm is None or not chosen:
        return []
    pairs = [(step, trial) for step in range(1, search.confirm.seeds + 1) for trial in chosen]
    return [
        replace(
            trial,
            number=len(trials) + k,
            config=trial.config.model_copy(update={"seed": trial.config.seed + step}),
            confirms=trial.number,
        )
        for k, (step, trial) in enumerate(pairs)
    ]


def rank_finalists(search: SearchConfig, trials: Sequence[Trial], confirming: Sequence[Trial]) -> list[Finalist]:
    """By the mean over the other seeds, the best first; one that failed on a seed comes after all that did not.

    confirming: `confirmations_of` the trials. Empty until every one of them has ended.
    """
    statuses = [(trial.confirms, trial_status(trial.folder)) for trial in confirming]
    if any(found.state not in ENDED for _, found in statuses):
        return []
    ranked = []
    finalists = {trial.confirms for trial in confirming}
    for trial in (trial for trial in trials if trial.number in finalists):
        others = [found for number, found in statuses if number == trial.number]
        came = [_objective(search, found) for found in others if found.state is State.FINISHED]
        own = _objective(search, trial_status(trial.folder))
        ranked.append(Finalist(trial.number, own, came, len(others) - len(came)))
    return sorted(ranked, key=lambda finalist: (finalist.failed, -finalist.mean, finalist.number))


def table_of_finalists(ranked: Sequence[Finalist]) -> Table:
    """For people: the mean over the other seeds, and each seed."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("finalist", "mean", "each", "chosen on"):
        table.add_column(name, justify="right" if name == "finalist" else "left")
    for finalist in ranked:
        seeds = " ".join(f"{value:.4f}" for value in finalist.others)
        failed = f" ({finalist.failed} failed)" if finalist.failed else ""
        table.add_row(str(finalist.number), finalist.in_words(), seeds + failed, f"{finalist.chosen_on:.4f}")
    return table


def _objective(search: SearchConfig, found: TrialStatus) -> float:
    assert found.chosen is not None, "a finished trial has chosen weights"
    return value_of(search.objective, found.chosen.metrics)
