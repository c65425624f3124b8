"""The typed description of a search, and what a trial's folder says to it. Light to import: no torch, no Ray."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from align_dist.config import RunConfig, known_keys, load_config, parse_config
from align_dist.data.manifest import with_fingerprint
from align_dist.errors import ConfigError
from align_dist.options.registry import METHODS, find_options
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import read_scalars
from align_dist.schedule import Schedule
from align_dist.schema.distributions import KINDS, Choice, Distribution
from align_dist.schema.text import Section, read_description, with_yaml_types
from align_dist.schema.values import Count, Positive, Seed, Weight, leaves, option_metadata

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
    "training.until": "a trial is trained to its end; a scheduler may stop it",
    **dict.fromkeys(("experiment", "runs", "variant"), "the search names its trials' folder"),
}


class Objective(Section):
    """A number of the source domains' validation part, to be maximised; nothing else can be named.

    accuracy; combined: accuracy + weight × metric (− for sufficiency, of which less is better); pareto: accuracy
    against a metric, neither traded for the other, so that the result is a front.
    """

    kind: Literal["accuracy", "combined", "pareto"] = "accuracy"
    metric: Literal["sufficiency", "comprehensiveness", "insertion_auc"] | None = None
    weight: Weight | None = None

    @model_validator(mode="after")
    def _whole(self) -> Objective:
        needed = {"accuracy": (False, False), "combined": (True, True), "pareto": (True, False)}[self.kind]
        if (self.metric is not None, self.weight is not None) != needed:
            forms = "{kind: accuracy}, {kind: combined, metric: M, weight: W} or {kind: pareto, metric: M}"
            raise ValueError(f"takes {forms}")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of a validation that the objective is made of."""
        return ("accuracy",) if self.metric is None else ("accuracy", self.metric)

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """All that is maximised: one number, or accuracy and the signed metric of a Pareto search."""
        signed = 0.0 if self.metric is None else SIGNS[self.metric] * metrics[self.metric]
        accuracy = metrics["accuracy"]
        return [accuracy, signed] if self.kind == "pareto" else [accuracy + (self.weight or 0.0) * signed]

    def value(self, metrics: Mapping[str, float]) -> float:
        """The number to maximise; of a Pareto search, its accuracy."""
        return self.values(metrics)[0]


def read_validations(folder: Path, schedule: Schedule, objective: Objective) -> dict[int, dict[str, float]]:
    """Scores of a run's weights on the source domains' validation part, by step: the validations that model selection
    may choose from and that have all metrics of the objective.
    """
    scalars = read_scalars(RunFolder(folder).metrics)
    series = {name: scalars.get(f"validation/{name}", {}) for name in objective.metrics}
    steps = [step for step in series["accuracy"] if all(step in values for values in series.values())]
    return {step: {name: series[name][step] for name in series} for step in steps if schedule.may_select(step)}


def scheduler_results(folder: Path, schedule: Schedule, objective: Objective) -> list[dict[str, float]]:
    """A run's validations as Ray's schedulers see them. is_last: 1 at the run's end, else 0."""
    validations = read_validations(folder, schedule, objective).items()
    scores = [(number, step, objective.value(metrics)) for number, (step, metrics) in enumerate(validations, 1)]
    return [{CLOCK: n, "step": step, "objective": x, "is_last": int(step == schedule.length)} for n, step, x in scores]


class Scheduler(Section):
    """asha: stops the worse of the trials that have come equally far. grace_period, max: in validations since guidance
    began, the first rung and the latest possible one (none: short of the trial's end), after which a trial is trained
    to its end; factor: one in so many goes on at a rung.
    """

    kind: Literal["asha", "none"] = "none"
    grace_period: Count = 1
    max: Count | None = None
    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 3.0


class Confirmation(Section):
    """Confirmation of the best trials with other seeds: the best is then the best on average."""

    finalists: Count = 3
    seeds: Count = 2


class SearchConfig(Section):
    """A search. What its trials are follows from all but samples, concurrency and resources.

    space: what varies, by dotted key of a run; left out, what the method's options name.
    """

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

    @model_validator(mode="after")
    def _possible(self) -> SearchConfig:
        if self.scheduler.kind == "asha" and self.objective.kind == "pareto":
            raise ValueError("scheduler: asha ranks by one number, a Pareto search has two; take kind: none")
        if self.confirm is not None and self.objective.kind == "pareto":
            raise ValueError("confirm: a Pareto search has no best trial but a front; leave it out")
        if self.confirm is not None and self.confirm.finalists > self.samples:
            raise ValueError(f"confirm.finalists: {self.confirm.finalists} are more than the {self.samples} samples")
        if self.scheduler.max is not None and self.scheduler.max <= self.scheduler.grace_period:
            raise ValueError(f"scheduler.max: {self.scheduler.max} validations is not after scheduler.grace_period")
        return self

    def base(self) -> RunConfig:
        """The run that all trials are variants of. Raises ConfigError."""
        overrides = (*self.overrides, f"experiment={self.experiment}", "variant=''")
        return with_fingerprint(load_config(self.config, overrides))

    def folder(self) -> Path:
        """`<runs>/<experiment>`."""
        return self.base().runs / self.experiment

    def identity(self) -> dict[str, Any]:
        """The settings that trials and their results follow from."""
        rest = {"config", "overrides", "samples", "concurrency", "cpus_per_trial", "gpus_per_trial", "confirm"}
        measured = {"base run": self.base().identity, "evaluation": self.base().evaluation.model_dump(mode="json")}
        return self.model_dump(mode="json", exclude=rest) | measured


def load_search(path: Path, changes: dict[str, Any] | None = None, overrides: Sequence[str] = ()) -> SearchConfig:
    """A search's YAML with `changes`, and more overrides of its base run. Raises ConfigError, one line."""
    if not path.exists():
        raise ConfigError(f"{path}: no such search; the ready ones are in configs/search/")
    description = read_description(path, "search")
    if "space" in description:
        description["space"] = with_yaml_types(description["space"])  # of many keys, whose types are the base run's
    if "benchmark" in description or "training" in description:
        raise ConfigError(f"{path}: a run's config, not a search; a search names it as `config: {path}`")
    own = description.get("overrides") or []
    if overrides and isinstance(own, list):
        description["overrides"] = [*own, *overrides]
    return parse_search(description | (changes or {}))


def parse_search(values: dict[str, Any]) -> SearchConfig:
    """Plain values as a checked search, whose every bound and choice makes a possible run. Raises ConfigError."""
    try:
        search = SearchConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_one_line(error)) from None
    base = search.base()
    if "space" not in search.model_fields_set:
        search = search.model_copy(update={"space": default_space(base.method)})
    if not search.space:
        raise ConfigError("space: nothing varies; name a key, such as align.lambda1: {loguniform: [0.3, 30]}")
    for key, distribution in search.space.items():
        _check_key(key, base, distribution)
    choices = [len(space.choice) for space in search.space.values() if isinstance(space, Choice)]
    if len(choices) == len(search.space) and search.samples > math.prod(choices):
        most = math.prod(choices)
        raise ConfigError(f"samples: {search.samples} are more than the {most} different trials of this space")
    return search


def default_space(method: str) -> dict[str, Distribution]:
    """The default space of a search: distributions from the method's options, by dotted key."""
    ranges = {key: option_metadata(field, "search") for key, field in leaves(find_options(method), f"{method}.")}
    return {key: DISTRIBUTION.validate_python(plain) for key, plain in ranges.items() if plain}


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


def _check_key(key: str, base: RunConfig, distribution: Distribution) -> None:
    """Raise ConfigError for a key that the run does not have, that must not differ, or whose values make no run."""
    known, section = known_keys(), key.partition(".")[0]
    if key not in known:
        raise ConfigError(f"space: unknown key {key}; did you mean {_nearest(key, known)}?")
    if section in METHODS and section != base.method:
        raise ConfigError(f"space: {key}: the run's method is {base.method}; leave it out, or take method={section}")
    for reason in (REFUSED.get(key), REFUSED.get(section)):
        if reason is not None:
            raise ConfigError(f"space: {key} cannot be searched: {reason}")
    identities = set()
    for value in distribution.extremes():
        try:
            identities.add(with_values(base, {key: value}).identity)
        except ConfigError as error:
            raise ConfigError(f"space: {key}: {value!r} makes no run: {error}") from None
    if len(identities) == 1 < len(distribution.extremes()):
        raise ConfigError(f"space: {key} changes nothing of a run's result; leave it out")


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    where = list(dict.fromkeys(str(part) for part in first["loc"]))  # a kind of distribution is named twice
    key, kind, message = ".".join(where), first["type"], first["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        parts: dict[str, type[Section]] = {"objective": Objective, "scheduler": Scheduler, "confirm": Confirmation}
        part = parts.get(where[0], SearchConfig)
        return f"{key}: unknown key; did you mean {_nearest(where[-1], list(part.model_fields))}?"
    if kind == "missing":
        return f"{key}: missing; every search has it"
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    if kind.startswith("union_tag"):
        message = f"takes one of {', '.join(KINDS)} with a list"
    if kind == "model_type":
        message = "takes a section of keys, such as {KEY: VALUE}"
    return f"{key}: {message[0].lower()}{message[1:]}, got {first['input']!r}"


def _nearest(name: str, known: Sequence[str]) -> str:
    return difflib.get_close_matches(name, known, 1, cutoff=0.0)[0]
