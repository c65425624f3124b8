"""The typed description of a search: a base run, what varies, how trials are chosen, how many run at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from align_dist.config import RunConfig, known_keys, load_config, parse_config
from align_dist.data.manifest import with_pictures
from align_dist.errors import ConfigError
from align_dist.methods.registry import find_options
from align_dist.schema.distributions import KINDS, Choice, Distribution, LogUniform, Uniform, Value
from align_dist.schema.text import Described, read_description, typed
from align_dist.schema.values import Count, Positive, Seed, leaves, told_of
from align_dist.search.objective import OBJECTIVE_KEYS, Accuracy, Objective, Pareto

DISTRIBUTION: TypeAdapter[Distribution] = TypeAdapter(Distribution)
METHOD = "align"
REFUSED = {
    "protocol": "who trains on what is what trials are compared on",
    "benchmark": "the pictures are what trials are compared on",
    "evaluation": "how trials are measured must be the same for all",
    "distributed": "it changes nothing but speed; set it in `overrides`",
    "seed": "the luckiest seed is no setting; set it in `overrides`",
    "method": "a search is for ALIGN",
    "experiment": "the search names its trials' folder",
    "runs": "the search names its trials' folder",
    "variant": "the search names its trials' folder",
    "training.until": "a trial is trained to its end; a scheduler may stop it",
}


def default_space(method: str) -> dict[str, Distribution]:
    """Where a search looks unless told otherwise: what the method's options say of themselves, by dotted key."""
    told = {key: told_of(field, "search") for key, field in leaves(find_options(method), f"{method}.")}
    return {key: DISTRIBUTION.validate_python(space) for key, space in told.items() if space}


class Scheduler(Described):
    """asha: stops the worse of the trials that have come equally far. grace, max: in guided epochs, the first rung
    and the latest possible one (none: short of the trial's end), after which a trial is trained to its end; factor:
    one in so many goes on at a rung.
    """

    kind: Literal["asha", "none"] = "none"
    grace: Positive = 1.0
    max: Positive | None = None
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
    space: dict[str, Distribution] = Field(default_factory=lambda: default_space(METHOD))
    algorithm: Literal["random", "tpe"] = "random"
    scheduler: Scheduler = Scheduler()
    samples: Count = 16
    concurrency: Count | None = None
    cpus_per_trial: Positive = 1.0
    gpus_per_trial: Annotated[float, Field(ge=0)] = 0.0
    ranks_per_trial: Count = 1
    objective: Objective = Accuracy()
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
        for key in self.space:
            check_key(key)
        if not self.space:
            raise ValueError("space: nothing varies; name a key, such as align.lambda1: {loguniform: [0.3, 30]}")
        choices = [distribution for distribution in self.space.values() if isinstance(distribution, Choice)]
        most = math.prod(len(distribution.choice) for distribution in choices)
        if len(choices) == len(self.space) and self.samples > most:
            raise ValueError(f"samples: {self.samples} are more than the {most} different trials of this space")
        if self.scheduler.kind == "asha" and isinstance(self.objective, Pareto):
            raise ValueError("scheduler: asha ranks by one number, a Pareto search has two; take kind: none")
        if any(override.startswith("method=") for override in self.overrides):
            raise ValueError(f"overrides: method: {REFUSED['method']}; leave it out")
        if self.confirm is not None and self.confirm.finalists > self.samples:
            raise ValueError(f"confirm.finalists: {self.confirm.finalists} are more than the {self.samples} samples")
        if self.confirm is not None and isinstance(self.objective, Pareto):
            raise ValueError("confirm: a Pareto search has no best trial but a front; leave it out")
        if self.scheduler.max is not None and self.scheduler.max <= self.scheduler.grace:
            raise ValueError(f"scheduler.max: {self.scheduler.max:g} guided epochs is not after scheduler.grace")
        return self

    @property
    def trunks(self) -> str:
        """The experiment of the shared warm-ups."""
        return f"{self.experiment}/trunks"

    def base(self) -> RunConfig:
        """The run that all trials are variants of. Raises ConfigError."""
        overrides = (*self.overrides, f"experiment={self.experiment}", f"method={METHOD}", "variant=''")
        return with_pictures(load_config(self.config, overrides))

    def identity(self) -> dict[str, Any]:
        """What the trials and what is known of them follow from."""
        rest = {"config", "overrides", "samples", "concurrency", "cpus_per_trial", "gpus_per_trial", "confirm"}
        base = self.base()
        measured = base.evaluation.model_dump(mode="json")
        return self.model_dump(mode="json", exclude=rest) | {"base run": base.identity, "evaluation": measured}


def check_key(key: str) -> None:
    """Raises ValueError for a key that a run does not have, or that must not differ between trials."""
    known = known_keys()
    if key not in known:
        nearest = difflib.get_close_matches(key, known, 1, cutoff=0.0)
        raise ValueError(f"space: unknown key {key}; did you mean {nearest[0]}?")
    for refused, reason in REFUSED.items():
        if key == refused or key.startswith(f"{refused}."):
            raise ValueError(f"space: {key} cannot be searched: {reason}")


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
    """Plain values as a checked search, whose every bound and choice makes a possible run. Raises ConfigError."""
    try:
        search = SearchConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_one_line(error)) from None
    base = search.base()
    for key, distribution in search.space.items():
        made = {_trial_at(base, key, value).identity for value in distribution.extremes()}
        if len(made) == 1 < len(distribution.extremes()):
            raise ConfigError(f"space: {key} changes nothing of a run's result; leave it out")
    return search


def _trial_at(base: RunConfig, key: str, value: Value) -> RunConfig:
    try:
        return with_values(base, {key: value})
    except ConfigError as error:
        raise ConfigError(f"space: {key}: {value!r} makes no run: {error}") from None


def with_values(base: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """A trial's run: the base with other values at dotted keys. Raises ConfigError where that cannot be."""
    told = base.model_dump(mode="json")
    for key, value in values.items():
        *path, name = key.split(".")
        part = told
        for step in path:
            part = part[step]
        part[name] = value
    return parse_config(told)


def branch_variants(search: SearchConfig, config: RunConfig) -> Iterator[RunConfig]:
    """The trial with every warm-up and head start that the space can choose: what else may branch off its trunk."""
    keys = [key for key in ("training.warmup", f"{METHOD}.masker_head_start") if key in search.space]
    for values in product(*(search.space[key].extremes() for key in keys)):
        try:
            yield with_values(config, dict(zip(keys, values, strict=True)))
        except ConfigError:
            continue  # two choices that do not go together are no trial


# A key's form, and the keys within it.
FORMS = {
    "objective": (
        "{kind: accuracy}, {kind: combined, metric: M, weight: W} or {kind: pareto, metric: M}",
        OBJECTIVE_KEYS,
    ),
    "scheduler": ("{kind: asha, grace: 2, factor: 3}", (*Scheduler.model_fields,)),
    "confirm": ("{finalists: 3, seeds: 2}", (*Confirmation.model_fields,)),
    "overrides": ("a list, [KEY=VALUE, ...]", ()),
    "space": ("{KEY: {loguniform: [LOW, HIGH]}, ...}", ()),
}
MISSHAPEN = (
    "model_type",
    "model_attributes_type",
    "dict_type",
    "tuple_type",
    "union_tag_invalid",
    "union_tag_not_found",
)


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    where = list(dict.fromkeys(str(part) for part in first["loc"]))  # a kind of distribution is named twice
    key = ".".join(where)
    form, keys = FORMS.get(where[0] if where else "", ("", ()))
    if first["type"] == "extra_forbidden":
        known = SearchConfig.model_fields if len(where) == 1 else keys
        nearest = difflib.get_close_matches(where[-1], known, 1, cutoff=0.0)
        return f"{key}: unknown key; " + (f"did you mean {nearest[0]}?" if nearest else f"takes {form}")
    if form and first["type"] in MISSHAPEN:
        return f"{where[0]}: takes {form}, got {first['input']!r}"
    if first["type"] == "missing":
        return f"{key}: missing" + (f"; takes {form}" if form else "; every search has it")
    message = first["msg"].removeprefix("Value error, ")
    if not key or first["type"] == "value_error":
        return f"{key}: {message}" if key and not message.startswith(key) else message
    return f"{key}: {message[0].lower()}{message[1:]}, got {first['input']!r}"
