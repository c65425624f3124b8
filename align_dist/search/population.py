"""Population-based training of λ1–λ4 (Jaderberg et al. 2017, arXiv 1711.09846), in generations.

All members train to the same step; the worst then go on as copies of good ones with other λs. The change stands in the
copy's config (`objective.changes`), so that every member is an ordinary run, and equals the same run from scratch. Who
copies whom and what the λs become are pure functions of the seed, the generation and the members' reports.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from align_dist.config import RunConfig
from align_dist.errors import ConfigError
from align_dist.search.distributions import Distribution, Value
from align_dist.search.folders import Trial
from align_dist.search.space import SearchConfig, with_values
from align_dist.search.trunk import schedule_of

ATTEMPTS = 100


@dataclass(frozen=True)
class Generation:
    """number: from 0 on. end: finished steps at which it is over. members: a trial a place, the places being fixed."""

    number: int
    end: int
    members: tuple[Trial, ...]


def generation_ends(search: SearchConfig, config: RunConfig) -> list[int]:
    """Finished steps at which generations are over, each with a validation; the last is the end of the run.

    Raises ConfigError where that is all there is.
    """
    schedule = schedule_of(config)
    every, interval = schedule.validate_every, search.population.interval * schedule.epoch
    count = int((schedule.length - schedule.warmup) / interval) + 1
    due = [math.ceil((schedule.warmup + k * interval) / every) * every for k in range(1, count + 1)]
    ends = sorted({step for step in due if step < schedule.length})
    if not ends:
        raise ConfigError(
            f"population.interval: {search.population.interval:g} guided epochs and a validation every {every} "
            f"steps leave one generation of {schedule.length - schedule.warmup} guided steps, in which nothing is "
            "exchanged; lower it, or training.validate_every"
        )
    return [*ends, schedule.length]


def exchange(scores: Sequence[float | None], quantile: float, seed: str) -> dict[int, int]:
    """Which places go on as copies of which.

    scores: of each place, the more the better, None of one that failed and is always replaced. quantile: the share of
    places that give, and of those that take. Of equals the first is the better.
    """
    ranked = [(score, place) for place, score in enumerate(scores) if score is not None]
    order = [place for _, place in sorted(ranked, key=lambda entry: (-entry[0], entry[1]))]
    count = min(math.ceil(len(scores) * quantile), len(order) // 2)
    failed = [place for place, score in enumerate(scores) if score is None]
    takers = [*order[len(order) - count :], *failed]
    givers = order[: max(1, count)]
    return {place: random.Random(f"{seed}/{place}").choice(givers) for place in takers} if givers else {}


def mutated(space: dict[str, Distribution], values: dict[str, Value], resample: float, seed: str) -> dict[str, Value]:
    """Every setting drawn anew with probability `resample`, else moved a step up or down."""
    changed: dict[str, Value] = {}
    for key, distribution in space.items():
        draws = random.Random(f"{seed}/{key}")
        fresh, share = draws.random() < resample, draws.random()
        changed[key] = distribution.at(share) if fresh else distribution.beside(values[key], share < 0.5)
    return changed


def next_generation(
    search: SearchConfig, generation: Generation, end: int, scores: Sequence[float | None], known: Sequence[Trial]
) -> Generation:
    """The generation after one that is over. known: every trial there has been, for numbers and for no run twice."""
    seed = f"{search.seed}/generation {generation.number}"
    copies = exchange(scores, search.population.quantile, seed)
    members, trials = list(generation.members), list(known)
    for place, giver in sorted(copies.items()):
        copy = _copy_of(search, generation.members[giver], generation.end, trials, f"{seed}/{place}")
        if copy is not None:
            members[place] = copy
            trials.append(copy)
    return Generation(generation.number + 1, end, tuple(members))


def _copy_of(search: SearchConfig, giver: Trial, step: int, known: Sequence[Trial], seed: str) -> Trial | None:
    """The giver with other λs after `step` steps; None where the space has none that is not there already."""
    taken: set[Path] = {trial.folder for trial in known}
    told = [change.model_dump(mode="json", exclude_none=True) for change in giver.config.objective.changes]
    for attempt in range(ATTEMPTS):
        values = mutated(search.space, giver.values, search.population.resample, f"{seed}/{attempt}")
        if values == giver.values:
            continue
        change: dict[str, Any] = {"at": f"{step} steps", **{key.rpartition(".")[2]: values[key] for key in values}}
        config = with_values(giver.config, {"objective.changes": [*told, change]})
        if config.folder not in taken:
            return Trial(len(known), values, config, giver.number, step)
    return None


def segment_of(trial: Trial, generation: Generation, length: int) -> Trial:
    """The trial up to the end of the generation, where it pauses unless that is its own."""
    until = f"{generation.end} steps" if generation.end < length else None
    training = trial.config.training.model_copy(update={"until": until})
    return replace(trial, config=trial.config.model_copy(update={"training": training}))
