"""The typed description of a search: a base run, what varies, what is maximised, how many trials run at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from align_dist.config import RunConfig, known_keys, load_config, parse_config
from align_dist.data.manifest import with_pictures
from align_dist.errors import ConfigError
from align_dist.methods.registry import METHODS, find_options
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import read_scalars
from align_dist.schedule import Schedule
from align_dist.schema.distributions import KINDS, Choice, Distribution, LogUniform, Uniform, Value
from align_dist.schema.text import Described, read_description, typed
from align_dist.schema.values import Count, Positive, Seed, Weight, leaves, told_of

DISTRIBUTION: TypeAdapter[Distribution] = TypeAdapter(Distribution)
# Of sufficiency less is better: what the explanation keeps should be enough.
SIGNS = {"sufficiency": -1.0, "comprehensiveness": 1.0, "insertion_auc": 1.0}
CLOCK = "validations"  # of a scheduler: those since guidance began
LOG = "trial.log"  # in a trial's folder: what its process says
REFUSED = {
    "protocol": "who trains on what is what trials are compared on",
    "benchmark": "the pictures are what trials are compared on",
    "evaluation": "how trials are measured must be the same for all",
    "distributed": "it changes nothing but speed; set it in `overrides`",
    "seed": "the luckiest seed is no setting; set it in `overrides`",
    "method": "methods have no space in common; search each by itself, with method=NAME in `overrides`",
    "experiment": "the search names its trials' folder",
    "runs": "the search names its trials' folder",
    "variant": "the search names its trials' folder",
    "training.until": "a trial is trained to its end; a scheduler may stop it",
}


class Objective(Described):
    """A number of the source domains' validation part, to be maximised; nothing else can be named.

    accuracy; combined: accuracy + weight × metric (− for sufficiency, of which less is better); pareto: accuracy
    against a metric, neither traded for the other, so that the result is a front.
    """

    kind: Literal["accuracy", "combined", "pareto"] = "accuracy"
    metric: Literal["sufficiency", "comprehensiveness", "insertion_auc"] | None = None
    weight: Weight | None = None

    @model_validator(mode="after")
    def _whole(self) -> Objective:
        needed = {"accuracy": [], "combined": ["metric", "weight"], "pareto": ["metric"]}[self.kind]
        if [name for name in ("metric", "weight") if getattr(self, name) is not None] != needed:
            raise ValueError(f"objective: takes {FORMS['objective']}")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of a validation that the objective is made of."""
        return ("accuracy",) if self.metric is None else ("accuracy", self.metric)

    def value(self, metrics: Mapping[str, float]) -> float:
        """The number to maximise; of a Pareto search, its accuracy."""
        if self.metric is None or self.weight is None:
            return metrics["accuracy"]
        return metrics["accuracy"] + self.weight * SIGNS[self.metric] * metrics[self.metric]

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """All that is maximised: one number, or accuracy and the signed metric of a Pareto search."""
        if self.kind == "pareto" and self.metric is not None:
            return [metrics["accuracy"], SIGNS[self.metric] * metrics[self.metric]]
        return [self.value(metrics)]


@dataclass(frozen=True)
class Validation:
    """What a trial's weights scored on the source domains' validation part after `step` finished steps."""

    step: int
    metrics: dict[str, float]


def read_validations(folder: Path, schedule: Schedule, objective: Objective) -> list[Validation]:
    """A run's validations that model selection may choose from and that have all metrics of the objective, by step."""
    scalars = read_scalars(RunFolder(folder).metrics)
    series = {name: scalars.get(f"validation/{name}", {}) for name in objective.metrics}
    steps = [step for step in series["accuracy"] if schedule.selectable(step)]
    whole = [step for step in steps if all(step in values for values in series.values())]
    return [Validation(step, {name: values[step] for name, values in series.items()}) for step in whole]


def results_of(validations: Sequence[Validation], schedule: Schedule, objective: Objective) -> list[dict[str, float]]:
    """Validations as schedulers see them, counted from 1. is_last: 1 at the trial's end, else 0."""
    return [
        {
            **validation.metrics,
            "objective": objective.value(validation.metrics),
            CLOCK: number,
            "step": validation.step,
            "is_last": int(validation.step == schedule.length),
        }
        for number, validation in enumerate(validations, 1)
    ]


class Scheduler(Described):
    """asha: stops the worse of the trials that have come equally far. grace, max: in validations since guidance began,
    the first rung and the latest possible one (none: short of the trial's end), after which a trial is trained to its
    end; factor: one in so many goes on at a rung.
    """

    kind: Literal["asha", "none"] = "none"
    grace: Count = 1
    max: Count | None = None
    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 3.0


class Confirmation(Described):
    """How many of the best trials are trained again, on how many other seeds: the best is then so on the average."""

    finalists: Count = 3
    seeds: Count = 2


class SearchConfig(Described):
    """A search. What its trials are follows from all but samples, concurrency and resources."""

    config: Path
    overrides: tuple[str, ...] = ()
    experiment: str
    seed: Seed = 0
    space: dict[str, Distribution] = Field(default_factory=dict)
    algorithm: Literal["random", "tpe"] = "random"
    scheduler: Scheduler = Scheduler()
    samples: Count = 16
    concurrency: Count | None = None
    cpus_per_trial: Positive = 1.0
    gpus_per_trial: Annotated[float, Field(ge=0)] = 0.0
    ranks_per_trial: Count = 1
    objective: Objective = Objective()
    share_warmup: bool = True
    confirm: Confirmation | None = None

    @field_validator("space", mode="before")
    @classmethod
    def _kinds(cls, given: Any) -> Any:
        """Says of a value of no known kind what there is, where pydantic would list three failures."""
        for key, value in given.items() if isinstance(given, dict) else ():
            if isinstance(value, LogUniform | Uniform | Choice):
                continue
            if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in KINDS:
                raise ValueError(f"{key} takes one of {', '.join(KINDS)} with a list, got {value}")
        return given

    @model_validator(mode="after")
    def _possible(self) -> SearchConfig:
        if self.scheduler.kind == "asha" and self.objective.kind == "pareto":
            raise ValueError("scheduler: asha ranks by one number, a Pareto search has two; take kind: none")
        if self.confirm is not None and self.confirm.finalists > self.samples:
            raise ValueError(f"confirm.finalists: {self.confirm.finalists} are more than the {self.samples} samples")
        if self.confirm is not None and self.objective.kind == "pareto":
            raise ValueError("confirm: a Pareto search has no best trial but a front; leave it out")
        if self.scheduler.max is not None and self.scheduler.max <= self.scheduler.grace:
            raise ValueError(f"scheduler.max: {self.scheduler.max} validations is not after scheduler.grace")
        return self

    def base(self) -> RunConfig:
        """The run that all trials are variants of. Raises ConfigError."""
        overrides = (*self.overrides, f"experiment={self.experiment}", "variant=''")
        return with_pictures(load_config(self.config, overrides))

    def folder(self) -> Path:
        """`<runs>/<experiment>`."""
        return self.base().runs / self.experiment

    def identity(self) -> dict[str, Any]:
        """What the trials and what is known of them follow from."""
        rest = {"config", "overrides", "samples", "concurrency", "cpus_per_trial", "gpus_per_trial", "confirm"}
        base = self.base()
        measured = base.evaluation.model_dump(mode="json")
        return self.model_dump(mode="json", exclude=rest) | {"base run": base.identity, "evaluation": measured}


def load_search(path: Path, changes: dict[str, Any] | None = None, overrides: Sequence[str] = ()) -> SearchConfig:
    """A search's YAML with `changes`, and more overrides of its base run. Raises ConfigError, one line."""
    if not path.exists():
        raise ConfigError(f"{path}: no such search; the ready ones are in configs/search/")
    given = read_description(path, "search")
    if "space" in given:
        given["space"] = typed(given["space"])  # of many keys, whose types are the base run's
    if "benchmark" in given or "training" in given:
        raise ConfigError(f"{path}: a run's config, not a search; a search names it as `config: {path}`")
    own = given.get("overrides") or []
    if overrides and isinstance(own, list):
        given["overrides"] = [*own, *overrides]
    return parse_search(given | (changes or {}))


def parse_search(values: dict[str, Any]) -> SearchConfig:
    """Plain values as a checked search, whose every bound and choice makes a possible run. Raises ConfigError.

    A search without a space has the one that its method's options name.
    """
    try:
        search = SearchConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_one_line(error)) from None
    base = search.base()
    if "space" not in search.model_fields_set:
        search = search.model_copy(update={"space": default_space(base.method)})
    _check_space(search, base)
    return search


def default_space(method: str) -> dict[str, Distribution]:
    """Where a search looks unless told otherwise: what the method's options say of themselves, by dotted key."""
    ranges = {key: told_of(field, "search") for key, field in leaves(find_options(method), f"{method}.")}
    return {key: DISTRIBUTION.validate_python(range_) for key, range_ in ranges.items() if range_}


def with_values(base: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """A run with other values at dotted keys. Raises ConfigError where that cannot be."""
    plain = base.model_dump(mode="json")
    for key, value in values.items():
        *path, name = key.split(".")
        part = plain
        for section in path:
            part = part[section]
        part[name] = value
    return parse_config(plain)


def _check_space(search: SearchConfig, base: RunConfig) -> None:
    if not search.space:
        raise ConfigError("space: nothing varies; name a key, such as align.lambda1: {loguniform: [0.3, 30]}")
    for key, distribution in search.space.items():
        _check_key(key, base.method)
        identities = {_trial_at(base, key, value).identity for value in distribution.extremes()}
        if len(identities) == 1 < len(distribution.extremes()):
            raise ConfigError(f"space: {key} changes nothing of a run's result; leave it out")
    choices = [distribution for distribution in search.space.values() if isinstance(distribution, Choice)]
    most = math.prod(len(distribution.choice) for distribution in choices)
    if len(choices) == len(search.space) and search.samples > most:
        raise ConfigError(f"samples: {search.samples} are more than the {most} different trials of this space")


def _check_key(key: str, method: str) -> None:
    """Raises ConfigError for a key that the run does not have, or that must not differ between trials."""
    known, section = known_keys(), key.partition(".")[0]
    if key not in known:
        raise ConfigError(f"space: unknown key {key}; did you mean {_nearest(key, known)}?")
    if section in METHODS and section != method:
        raise ConfigError(f"space: {key}: the base run's method is {method}; leave it out, or take method={section}")
    for refused, reason in REFUSED.items():
        if key == refused or key.startswith(f"{refused}."):
            raise ConfigError(f"space: {key} cannot be searched: {reason}")


def _trial_at(base: RunConfig, key: str, value: Value) -> RunConfig:
    try:
        return with_values(base, {key: value})
    except ConfigError as error:
        raise ConfigError(f"space: {key}: {value!r} makes no run: {error}") from None


FORMS = {
    "objective": "{kind: accuracy}, {kind: combined, metric: M, weight: W} or {kind: pareto, metric: M}",
    "scheduler": "{kind: asha, grace: 2, factor: 3}",
    "confirm": "{finalists: 3, seeds: 2}",
    "overrides": "a list, [KEY=VALUE, ...]",
    "space": "{KEY: {loguniform: [LOW, HIGH]}, ...}",
}
PARTS = {"objective": Objective, "scheduler": Scheduler, "confirm": Confirmation}
MISSHAPEN = ("model_type", "model_attributes_type", "dict_type", "tuple_type")


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    where = list(dict.fromkeys(str(part) for part in first["loc"]))  # a kind of distribution is named twice
    key, part = ".".join(where), where[0] if where else ""
    if first["type"] == "extra_forbidden":
        known = (SearchConfig if len(where) == 1 else PARTS[part]).model_fields
        return f"{key}: unknown key; did you mean {_nearest(where[-1], list(known))}?"
    if part in FORMS and first["type"] in MISSHAPEN:
        return f"{part}: takes {FORMS[part]}, got {first['input']!r}"
    if first["type"] == "missing":
        return f"{key}: missing; every search has it"
    message = first["msg"].removeprefix("Value error, ")
    if not key or first["type"] == "value_error":
        return f"{key}: {message}" if key and not message.startswith(part) else message
    return f"{key}: {message[0].lower()}{message[1:]}, got {first['input']!r}"


def _nearest(name: str, known: Sequence[str]) -> str:
    return difflib.get_close_matches(name, known, 1, cutoff=0.0)[0]
