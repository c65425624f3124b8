"""Reading a config from YAML and dotted overrides, and writing it back."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from align_dist.arithmetic import resolve_precision
from align_dist.config.sections import RunConfig
from align_dist.errors import ConfigError
from align_dist.options.registry import METHODS, find_options
from align_dist.schema.text import override, read_description
from align_dist.schema.values import leaves

M = TypeVar("M", bound=BaseModel)


def load_config(path: Path, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """The config in a YAML file with dotted overrides (`align.lambda3=0.5`), checked. The schema types the values.

    Raises ConfigError in one line: the key, the value, what the key takes, the nearest known key.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such config; the ready ones are in configs/")
    values = read_description(path, "config")
    for assignment in overrides:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r}: an override is KEY=VALUE, for example align.lambda3=0.5")
        override(values, key, text, section=text.startswith("{") and _is_section(key))
    return parse_config(values)


def parse_config(values: Any) -> RunConfig:
    """Plain values as a checked config with `auto` precision resolved. Raises ConfigError for the first mistake."""
    fields = dict(values) if isinstance(values, dict) else values
    if isinstance(fields, dict):
        method = str(fields.get("method", RunConfig.model_fields["method"].default))
        sections = {name: fields.pop(name) for name in METHODS if name in fields}
        options = {name: _checked(find_options(name), section, f"{name}.") for name, section in sections.items()}
        fields["methods"] = {method: find_options(method)(), **options}
    config = _checked(RunConfig, fields)
    training = config.training
    precision = resolve_precision(training.precision, training.device, config.classifier.backbone)
    return config.model_copy(update={"training": training.model_copy(update={"precision": precision})})


def _checked(model: type[M], values: Any, prefix: str = "") -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_one_line(error, prefix)) from None


def _one_line(error: ValidationError, prefix: str) -> str:
    first = error.errors()[0]
    key = prefix + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_hint(key)}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        message = "takes a section of keys, such as {KEY: VALUE}"
    if not first["loc"] and first["type"] == "value_error":
        return prefix + message
    return f"{key.rstrip('.')}: {message[0].lower()}{message[1:]}, got {first['input']!r}"


def _hint(key: str) -> str:
    """The known key with the closest spelling, as a whole or in its last part; of a method's section the section's own
    keys alone. Else how to list all keys.
    """
    known, (section, _, rest) = known_keys(), key.partition(".")
    if section in METHODS and rest:
        own = [name.removeprefix(f"{section}.") for name in known if name.startswith(f"{section}.")]
        close = [f"{section}.{name}" for name in difflib.get_close_matches(rest, own, 1)]
        close += [name for name in known if name.endswith(f".{rest}") and name.partition(".")[0] not in METHODS]
        return f"did you mean {close[0]}?" if close else f"{section} has {', '.join(own) or 'no keys'}"
    ends = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    nearest = ends or difflib.get_close_matches(key, known, 1)
    return f"did you mean {nearest[0]}?" if nearest else "`align-dist train CONFIG --print-config` shows them all"


def known_keys() -> list[str]:
    """Every dotted key of a config, including those of every method's section."""
    shared = [key for key, _ in leaves(RunConfig) if key != "methods"]
    return shared + [key for name in METHODS for key, _ in leaves(find_options(name), f"{name}.")]


def _is_section(key: str) -> bool:
    return key in METHODS or any(name.startswith(f"{key}.") for name in known_keys())


def to_yaml(config: RunConfig) -> str:
    """The config as YAML that `load_config` reads back to an equal config."""
    from yaml import safe_dump

    text: str = safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text
