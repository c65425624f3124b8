"""From a YAML file and dotted overrides to a checked run, and back."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from align_dist.arithmetic import settled_precision
from align_dist.config.sections import RunConfig
from align_dist.config.text import override, read_description
from align_dist.errors import ConfigError


def load_config(path: Path, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """A YAML file and dotted overrides (`objective.lambda3=0.5`) as a checked run. Values are read by the schema.

    Raises ConfigError, one line: the key, what it got, what it takes, the nearest known key.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such config; the ready ones are in configs/")
    values, known = read_description(path, "config"), known_keys()
    for given in overrides:
        key, equals, text = given.partition("=")
        if not equals:
            raise ConfigError(f"{given!r}: an override is KEY=VALUE, for example objective.lambda3=0.5")
        override(values, key, text, section=any(name.startswith(f"{key}.") for name in known))
    return parse_config(values)


def parse_config(values: Any) -> RunConfig:
    """Plain values as a checked run, `auto` precision settled. Raises ConfigError naming the first mistake."""
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_one_line(error)) from None
    given = config.training
    settled = {"precision": settled_precision(given.precision, given.device, config.classifier.backbone)}
    return config.model_copy(update={"training": given.model_copy(update=settled)})


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_hint(key)}"
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return message
    return f"{key}: {message[0].lower()}{message[1:]}, got {first['input']!r}"


def _hint(key: str) -> str:
    """The known key that is spelt most alike, whole or in its last part; else where the keys are to be seen."""
    known = known_keys()
    ends = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    nearest = ends or difflib.get_close_matches(key, known, 1)
    return f"did you mean {nearest[0]}?" if nearest else "`align-dist train CONFIG --print-config` shows them all"


def known_keys(part: type[BaseModel] = RunConfig, prefix: str = "") -> list[str]:
    """Every dotted key of a config."""
    keys = []
    for name, field in part.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            keys += known_keys(nested, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def to_yaml(config: RunConfig) -> str:
    """The resolved run as YAML that `load_config` reads back to an equal one."""
    from yaml import safe_dump

    text: str = safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text
