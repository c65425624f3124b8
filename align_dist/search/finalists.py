"""The best trials once more, on other seeds: the best of many on one seed is mostly the luckiest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING

from align_dist.search.folders import Standing, Trial, standing_of
from align_dist.search.objective import value_of
from align_dist.search.space import SearchConfig

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Finalist:
    """A trial's number, and its objective on each seed that it came to the end of, its own first. failed: on how many
    it did not.
    """

    number: int
    objectives: Sequence[float]
    failed: int = 0

    @property
    def mean(self) -> float:
        return mean(self.objectives)

    @property
    def error(self) -> float | None:
        """The standard error; None of one seed."""
        return stdev(self.objectives) / math.sqrt(len(self.objectives)) if len(self.objectives) > 1 else None


def finalists_of(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The best finished trials; none before every trial is over, or where the search confirms none."""
    standings = [(trial, standing_of(trial.folder)) for trial in trials]
    if search.confirm is None or len(trials) < search.samples or not all(found.over for _, found in standings):
        return []
    finished = [(trial, found) for trial, found in standings if found.state == "finished"]
    ranked = sorted(finished, key=lambda pair: (-_objective(search, pair[1]), pair[0].number))
    return [trial for trial, _ in ranked[: search.confirm.finalists]]


def confirmations_of(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The finalists on the seeds that follow the search's own, numbered on from the trials; seed by seed."""
    chosen = finalists_of(search, trials)
    if search.confirm is None or not chosen:
        return []
    pairs = [(step, trial) for step in range(1, search.confirm.seeds + 1) for trial in chosen]
    return [
        replace(
            trial,
            number=len(trials) + k,
            config=trial.config.model_copy(update={"seed": trial.config.seed + step}),
            parent=None,
            since=0,
            confirms=trial.number,
        )
        for k, (step, trial) in enumerate(pairs)
    ]


def rank_finalists(search: SearchConfig, trials: Sequence[Trial]) -> list[Finalist]:
    """By the mean over seeds, the best first; one that failed on a seed comes after all that did not.

    Empty until every confirmation is over.
    """
    confirming = confirmations_of(search, trials)
    standings = [(trial.confirms, standing_of(trial.folder)) for trial in confirming]
    if not all(found.over for _, found in standings):
        return []
    ranked = []
    for trial in finalists_of(search, trials):
        others = [found for number, found in standings if number == trial.number]
        came = [found for found in (standing_of(trial.folder), *others) if found.state == "finished"]
        objectives = [_objective(search, found) for found in came]
        ranked.append(Finalist(trial.number, objectives, 1 + len(others) - len(came)))
    return sorted(ranked, key=lambda finalist: (finalist.failed, -finalist.mean, finalist.number))


def table_of_finalists(ranked: Sequence[Finalist]) -> Table:
    """For people: the mean with its standard error, and each seed."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("finalist", "mean", "s.e.", "by seed"):
        table.add_column(name, justify="left" if name == "by seed" else "right")
    for finalist in ranked:
        error = "–" if finalist.error is None else f"{finalist.error:.4f}"
        seeds = " ".join(f"{value:.4f}" for value in finalist.objectives)
        failed = f" ({finalist.failed} failed)" if finalist.failed else ""
        table.add_row(str(finalist.number), f"{finalist.mean:.4f}", error, seeds + failed)
    return table


def _objective(search: SearchConfig, found: Standing) -> float:
    assert found.chosen is not None, "a finished trial has chosen weights"
    return value_of(search.objective, found.chosen.metrics)
