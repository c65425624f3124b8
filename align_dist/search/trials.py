"""A search's trials, and what is known of them: their run folders are the only state that a search goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from align_dist.assembly import schedule_of
from align_dist.config import RunConfig, to_yaml
from align_dist.errors import ConfigError
from align_dist.files import read_json, write_text
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import latest_metrics
from align_dist.runs.status import State, Status, unfinished_status
from align_dist.runs.warmup import branch_step, silent_in_warmup, trunk_of
from align_dist.schema.distributions import Value
from align_dist.search.config import Objective, SearchConfig, Validation, read_validations, with_values

SUGGESTED, STOPPED, DESCRIPTION = "suggested.json", "stopped.json", "trial.yaml"
ENDED = (State.FINISHED, State.STOPPED, State.FAILED)


@dataclass(frozen=True)
class Trial:
    """A trial: its number in the search, its values by dotted key, and the run that it is.

    confirms: the number of the trial that this is on another seed.
    """

    number: int
    values: dict[str, Value]
    config: RunConfig
    confirms: int | None = None

    @property
    def folder(self) -> Path:
        return self.config.folder

    def __str__(self) -> str:
        """Such as `trial 3: lambda1=0.5 warmup=4 epochs`."""
        seed = {} if self.confirms is None else {"seed": self.config.seed}
        values = {key.rpartition(".")[2]: value for key, value in self.values.items()} | seed
        return f"trial {self.number}: " + " ".join(f"{name}={value}" for name, value in values.items())


@dataclass(frozen=True)
class TrialStatus(Status):
    """A trial's status. finished: trained to its end. steps: trained so far, with those of its warm-up. validations:
    those since guidance began. selected: what the weights that model selection keeps scored, None before guidance.
    over: whether the search does not start the trial again.
    """

    steps: int
    validations: Sequence[Validation]
    selected: Validation | None
    over: bool


def trial_status(trial: Trial, objective: Objective) -> TrialStatus:
    """How a trial stands. Nobody has to be at work on it."""
    folder = RunFolder(trial.folder)
    validations = read_validations(folder.path, schedule_of(trial.config), objective)
    steps, selected = steps_in(folder.path), best_validation(validations)
    trained, stop, ending = folder.trained_steps(), read_json(folder.path / STOPPED), folder.ending()
    if trained is not None:
        selected = next((v for v in validations if v.step == trained.get("validation")), None)
        unmeasured = "its validations lack the objective's metrics: another command trained it; delete its folder"
        state = Status(State.FINISHED, "") if selected is not None else Status(State.FAILED, unmeasured)
        return TrialStatus(state.state, state.reason, steps, validations, selected, True)
    if stop:
        return TrialStatus(State.STOPPED, str(stop.get("reason", "")), steps, validations, selected, True)
    state, over = unfinished_status(folder), ending is not None and ending.error.permanent
    return TrialStatus(state.state, state.reason, steps, validations, selected, over)


def best_validation(validations: Sequence[Validation]) -> Validation | None:
    """The one whose weights model selection keeps: the best accuracy, of equals the latest."""
    return max(validations, key=lambda validation: (validation.metrics["accuracy"], validation.step), default=None)


def steps_in(folder: Path) -> int:
    """The last step in metrics.jsonl; 0 before the first."""
    latest = latest_metrics(RunFolder(folder).metrics)
    return latest[-1].step if latest else 0


def mark_begun(trial: Trial, objective: Objective) -> None:
    """Puts a trial's number and values into its folder, once, and what `align-dist train` takes."""
    path = trial.folder / SUGGESTED
    if trial.confirms is None and not path.exists():
        write_text(path, json.dumps({"number": trial.number, "values": trial.values}) + "\n")
    write_text(trial.folder / DESCRIPTION, to_yaml(as_trained(trial.config, objective)))


def as_trained(config: RunConfig, objective: Objective) -> RunConfig:
    """A run as a search trains it, with a checkpoint at every validation, and explanations measured there where the
    objective asks for them. Neither changes its weights, its identity or its folder.
    """
    explained = {"evaluation.explain_validation": True} if len(objective.metrics) > 1 else {}
    return with_values(config, {"training.checkpoint_every": config.training.validate_every, **explained})


def mark_stopped(folder: Path, reason: str) -> None:
    """Puts it on record that a scheduler stopped the trial, which is then not started again."""
    write_text(folder / STOPPED, json.dumps({"reason": reason}) + "\n")


def begun_trials(search: SearchConfig) -> list[Trial]:
    """The trials that a search has begun, by number, from their folders."""
    base = search.base()
    records = [read_json(path) for path in search.folder().glob(f"*/{SUGGESTED}")]
    trials = [
        Trial(record["number"], record["values"], with_values(base, record["values"])) for record in records if record
    ]
    return sorted(trials, key=lambda trial: trial.number)


def branch_steps(search: SearchConfig, trial: Trial) -> list[int]:
    """Steps at which trials of the search may leave this one's shared warm-up."""
    return sorted({branch_step(other) for other in length_variants(search, trial.config)} - {0})


def length_variants(search: SearchConfig, config: RunConfig) -> Iterator[RunConfig]:
    """A trial with every length, such as a warm-up's, that the space can choose and that is silent in warm-up."""
    silent = silent_in_warmup(config.method)
    lengths = {key: space.extremes() for key, space in search.space.items() if key in silent}
    keys = [key for key, values in lengths.items() if all(isinstance(value, str) for value in values)]
    for values in product(*(lengths[key] for key in keys)):
        try:
            yield with_values(config, dict(zip(keys, values, strict=True)))
        except ConfigError:
            continue  # two choices that do not go together are no trial


def taking_turns(trials: Sequence[Trial]) -> list[Trial]:
    """The trials, one of each warm-up first, so that those that run at once rarely wait for the same one."""
    trunks = [trunk_of(trial.config).folder for trial in trials]
    rounds = [trunks[:place].count(trunk) for place, trunk in enumerate(trunks)]
    return [trial for _, trial in sorted(zip(rounds, trials, strict=True), key=lambda pair: pair[0])]


def most_validations(configs: Sequence[RunConfig]) -> int:
    """Validations since guidance began of the run that has most of them."""
    return max(map(_validations_of, configs))


def _validations_of(config: RunConfig) -> int:
    schedule = schedule_of(config)
    every = schedule.validate_every or schedule.length
    steps = {*range(every, schedule.length, every), schedule.length}
    return sum(map(schedule.selectable, steps))


def finalists_of(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The best finished trials; none before every trial has ended, or where the search confirms none."""
    statuses = [(trial, trial_status(trial, search.objective)) for trial in trials]
    if search.confirm is None or len(trials) < search.samples or any(s.state not in ENDED for _, s in statuses):
        return []
    finished = {
        t.number: search.objective.value(s.selected.metrics)
        for t, s in statuses
        if s.state is State.FINISHED and s.selected
    }
    ranked = sorted(
        (trial for trial in trials if trial.number in finished),
        key=lambda trial: (-finished[trial.number], trial.number),
    )
    return ranked[: search.confirm.finalists]


def confirmations_of(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The finalists on the seeds that follow the base run's, numbered on from the trials; seed by seed."""
    finalists = finalists_of(search, trials)
    seeds = range(1, search.confirm.seeds + 1) if search.confirm is not None else ()
    pairs = enumerate(product(seeds, finalists), len(trials))
    return [
        replace(
            trial,
            number=number,
            config=trial.config.model_copy(update={"seed": trial.config.seed + step}),
            confirms=trial.number,
        )
        for number, (step, trial) in pairs
    ]
