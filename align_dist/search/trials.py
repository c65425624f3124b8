"""A search's trials, and what is known of them: their run folders are the only state that a search goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from align_dist.config import RunConfig, to_yaml
from align_dist.errors import ConfigError
from align_dist.files import read_json, write_text
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import latest_metrics
from align_dist.runs.status import State, Status, training_status
from align_dist.runs.warmup import branch_step, silent_in_warmup, trunk_of
from align_dist.schema.distributions import Value
from align_dist.search.config import Objective, SearchConfig, read_validations, with_values
from align_dist.training_plan import schedule_of

SUGGESTED, DESCRIPTION = "suggested.json", "trial.yaml"
ENDED = (State.TRAINED, State.STOPPED, State.FAILED)
UNMEASURED = "its validations lack the objective's metrics: another command trained it; delete its folder"


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
    """A trial's status. steps: trained so far, with those of its warm-up. validations: how many since guidance began.
    selected: the step of the weights that model selection keeps, metrics: what they scored, objective: what that is
    worth; none before guidance. over: whether the search does not start the trial again.
    """

    trial: Trial
    steps: int
    validations: int
    selected: int | None
    metrics: dict[str, float]
    objective: float | None
    over: bool


def trial_status(trial: Trial, objective: Objective) -> TrialStatus:
    """The status of a trial that no process has to be at work on."""
    folder = RunFolder(trial.folder)
    status, trained, ending = training_status(folder), folder.trained_steps(), folder.ending()
    latest = latest_metrics(folder.metrics)
    validations = read_validations(folder.path, schedule_of(trial.config), objective)
    # The best accuracy, of equals the latest, as model selection has it.
    selected = max(validations, key=lambda step: (validations[step]["accuracy"], step), default=None)
    if trained is not None:
        selected = trained.get("validation")
    metrics = {name: round(value, 6) for name, value in validations.get(selected or 0, {}).items()}
    if trained is not None and not metrics:
        status = Status(State.FAILED, UNMEASURED)
    over = trained is not None or status.state is State.STOPPED or (ending is not None and ending.error.permanent)
    worth, steps = round(objective.value(metrics), 6) if metrics else None, latest[-1].step if latest else 0
    return TrialStatus(status.state, status.reason, trial, steps, len(validations), selected, metrics, worth, over)


def mark_begun(trial: Trial, objective: Objective) -> None:
    """Put a trial's number and values into its folder, once, and what `align-dist train` takes: the run with a
    checkpoint at every validation, which measures explanations too where the objective asks for them. Neither changes
    the run's weights, its identity or its folder.
    """
    path, every = trial.folder / SUGGESTED, trial.config.training.validate_every
    if trial.confirms is None and not path.exists():
        write_text(path, json.dumps({"number": trial.number, "values": trial.values}) + "\n")
    explained = {"evaluation.explain_validation": True} if objective.metric else {}
    config = with_values(trial.config, {"training.checkpoint_every": every, **explained})
    write_text(trial.folder / DESCRIPTION, to_yaml(config))


def begun_trials(search: SearchConfig) -> list[Trial]:
    """The trials that a search has begun, by number, from their folders."""
    base, records = search.base(), [read_json(path) for path in search.folder().glob(f"*/{SUGGESTED}")]
    trials = [Trial(r["number"], r["values"], with_values(base, r["values"])) for r in records if r]
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


def check_lengths(search: SearchConfig, trials: Sequence[Trial]) -> int:
    """Validations since guidance began of the trial that has most of them; where trials are asked for later, of any
    that may be. Raises ConfigError for what would come out only once a warm-up is paid for: lengths that do not go
    together, and a first rung after every trial's last validation.
    """
    later = length_variants(search, search.base()) if len(trials) < search.samples else ()
    schedules = [schedule_of(config) for config in (*(trial.config for trial in trials), *later)]
    most = max(sum(s.is_due(step, s.validate_every) for step in range(s.warmup + 1, s.length + 1)) for s in schedules)
    if search.scheduler.kind == "asha" and search.scheduler.grace_period >= most:
        problem = f"{search.scheduler.grace_period} guided validations are no less than any trial has ({most})"
        raise ConfigError(f"scheduler.grace_period: {problem}, nothing would be stopped; lower it")
    return most


def ranked(statuses: Iterable[TrialStatus]) -> list[TrialStatus]:
    """The trials with an objective that ended well, the best first, of equals the lower number. Those that were stopped
    early come last: they were measured after less guidance.
    """
    scored = [s for s in statuses if s.objective is not None and s.state in (State.TRAINED, State.STOPPED)]
    return sorted(scored, key=lambda s: (s.state is State.STOPPED, -(s.objective or 0.0), s.trial.number))


def confirmations_of(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The best finished trials on the seeds that follow the base run's, numbered on from the trials; seed by seed.

    None before every trial has ended, or where the search confirms none.
    """
    statuses = [trial_status(trial, search.objective) for trial in trials]
    if search.confirm is None or len(trials) < search.samples or any(s.state not in ENDED for s in statuses):
        return []
    best = [status.trial for status in ranked(statuses) if status.state is State.TRAINED]

    def confirmation(trial: Trial, number: int, step: int) -> Trial:
        config = trial.config.model_copy(update={"seed": trial.config.seed + step})
        return replace(trial, number=number, config=config, confirms=trial.number)

    pairs = product(range(1, search.confirm.seeds + 1), best[: search.confirm.finalists])
    return [confirmation(trial, number, step) for number, (step, trial) in enumerate(pairs, len(trials))]
