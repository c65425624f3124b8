"""YAML whose values stay text, so that the schema decides what `15`, `no`, `007` or `1e-3` mean.

YAML infers types from spelling alone: a domain named `15` would be a number, a domain named `no` false, and `1e-3` a
string. Here a plain value is a `Text`, which a field of a `Section` model converts to the field's type.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from yaml import MappingNode, SafeLoader, ScalarNode, YAMLError, load, safe_load
from yaml.constructor import ConstructorError
from yaml.error import MarkedYAMLError

from align_dist.errors import ConfigError

NULLS = ("", "~", "null", "Null", "NULL")


class Text(str):
    """A value written without quotes."""


class Section(BaseModel):
    """A section of a config: no unknown keys, frozen, plain values converted to the fields' types."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        types = {name: field.annotation for name, field in cls.model_fields.items()}
        return {key: _meant(key, value, types.get(key)) for key, value in values.items()}


def _meant(key: str, value: Any, annotation: Any) -> Any:
    """A plain value converted for a field's type: None where the field allows None, else a list, a mapping or text."""
    if not isinstance(value, Text):
        return value
    kinds = _kinds_of(annotation)
    if value in NULLS and NoneType in kinds:
        return None
    structured = any(kind in (tuple, list, dict) or issubclass(kind, BaseModel) for kind in kinds)
    if not structured or not value.startswith(("[", "{")):
        return str(value)
    try:
        return parse_yaml(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _kinds_of(annotation: Any) -> set[type]:
    origin = get_origin(annotation)
    if origin in (tuple, list, dict):
        return {origin}
    if isinstance(annotation, type):
        return {annotation}
    inner = () if origin is Literal else get_args(annotation)
    return {kind for argument in inner for kind in _kinds_of(argument)}


class _TextLoader(SafeLoader):  # type: ignore[misc]
    """A safe YAML loader that resolves no plain value but the key `<<`, and refuses duplicate keys."""

    yaml_implicit_resolvers: ClassVar = {"<": SafeLoader.yaml_implicit_resolvers["<"]}

    def construct_text(self, node: ScalarNode) -> str:
        value = str(self.construct_scalar(node))
        return Text(value) if node.style is None else value

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise ConstructorError(None, None, f"{key.value}: duplicate key", key.start_mark)
        return dict(super().construct_mapping(node, deep))


_TextLoader.add_constructor("tag:yaml.org,2002:str", _TextLoader.construct_text)


def parse_yaml(content: str | bytes) -> Any:
    """Parse YAML into mappings, lists and text. Raises ValueError, in one line, for invalid YAML."""
    try:
        return load(content, _TextLoader)
    except YAMLError as error:
        raise ValueError(_reason(error)) from None


def _reason(error: YAMLError) -> str:
    """The place and the problem; without a place, such as for bytes that are not UTF-8, the whole message."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def read_description(path: Path, kind: str) -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file. Raises ConfigError for any other content.

    kind: what the file is, for the message.
    """
    try:
        values = parse_yaml(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: not a readable {kind}: {reason}") from None
    if values is None or values == "":
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not a {kind}: takes keys and values, one a line, such as `seed: 0`")
    return values


def override(values: dict[str, Any], key: str, text: str, section: bool) -> None:
    """Set a dotted key to a text, without its quotes where the text is quoted.

    section: whether the key names a section; then the keys in `{...}` are merged into the section. Raises ConfigError
    for invalid YAML.
    """
    *path, name = key.split(".")
    for step in path:
        values[step] = _keys_in(values.get(step))
        values = values[step]
    if section and text.startswith("{"):
        try:
            values[name] = _keys_in(values.get(name)) | _keys_in(parse_yaml(text))
        except ValueError as error:
            raise ConfigError(f"{key}: takes {{KEY: VALUE, ...}}, got {text!r}: {error}") from None
    else:
        values[name] = _unquoted(text)


def _keys_in(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unquoted(text: str) -> str:
    if text[:1] == text[-1:] and text[:1] in ("'", '"'):
        with suppress(ValueError):
            value = parse_yaml(text)
            if isinstance(value, str) and not isinstance(value, Text):
                return value
    return Text(text)


def with_yaml_types(value: Any) -> Any:
    """Plain values with YAML's own types (numbers, booleans, None), for values without a field."""
    if isinstance(value, dict):
        return {key: with_yaml_types(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_yaml_types(inner) for inner in value]
    return safe_load(value) if isinstance(value, Text) else value
