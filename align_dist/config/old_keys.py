"""Keys of old configs, each refused with one line that names the new key."""

from __future__ import annotations

from typing import Any

from align_dist.errors import ConfigError
from align_dist.options.registry import METHODS, find_options
from align_dist.schema.values import leaves

RENAMED = {"fixed_mask": "mask"}
# Old keys of sections that are still there.
OF_SECTIONS = {"training": ("masker_head_start", "sparsity_ramp"), "data": ("balance_domains",)}
REPLACED = {
    "objective.changes": "gone, together with the population search; remove it",
    "data.balance_domains": "has become data.balance; write domains for true, none for false",
}


def refuse_old_keys(values: dict[str, Any], method: str) -> None:
    """Raise ConfigError for the first key of an old config."""
    for key in _old_keys(values):
        if key in REPLACED:
            raise ConfigError(f"{key}: {REPLACED[key]}")
        raise ConfigError(f"{key}: options have moved to the method's section; {_advice(key, method)}")


def _old_keys(values: dict[str, Any]) -> list[str]:
    keys: list[str] = []
    for section in ("objective", "masker"):
        content = values.get(section)
        if section in values:
            keys += [f"{section}.{name}" for name in content] if isinstance(content, dict) and content else [section]
    for section, names in OF_SECTIONS.items():
        content = values.get(section)
        if isinstance(content, dict):
            keys += [f"{section}.{name}" for name in names if name in content]
    return keys


def _advice(key: str, method: str) -> str:
    """The new key in the section of the run's method, or of the first method that has the option."""
    section, _, name = key.partition(".")
    new = f"masker.{name}" if section == "masker" else RENAMED.get(name, name)
    methods = [other for other in (method, *METHODS) if new.rstrip(".") in _options_of(other)]
    if not methods:
        return f"write {method}: {{KEY: VALUE}}"
    replacement = f"{methods[0]}.{new}"
    return (
        f"write {replacement}"
        if methods[0] == method
        else f"{method} has no such option, remove it or write {replacement}"
    )


def _options_of(method: str) -> set[str]:
    names = {name for name, _ in leaves(find_options(method))}
    return names | {name[: name.rindex(".")] for name in names if "." in name}
