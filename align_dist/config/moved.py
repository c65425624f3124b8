"""Keys of old configs: each answers with one line that names the new key."""

from __future__ import annotations

from typing import Any

from align_dist.errors import ConfigError
from align_dist.methods.registry import METHODS, find_options
from align_dist.schema.values import leaves

RENAMED = {"fixed_mask": "mask"}
OF_TRAINING = ("masker_head_start", "sparsity_ramp")


def refuse_moved(values: dict[str, Any], method: str) -> None:
    """Raises ConfigError for the first key that stood in another section once."""
    for key in _old_keys(values):
        if key == "objective.changes":
            raise ConfigError("objective.changes: gone, with the population search that made them; leave it out")
        raise ConfigError(f"{key}: options are in a method's own section now; {_advice(key, method)}")


def _old_keys(values: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for section in ("objective", "masker"):
        inside = values.get(section)
        if section in values:
            found += [f"{section}.{name}" for name in inside] if isinstance(inside, dict) and inside else [section]
    training = values.get("training")
    if isinstance(training, dict):
        found += [f"training.{name}" for name in OF_TRAINING if name in training]
    return found


def _advice(key: str, method: str) -> str:
    """The key of the run's method; of the first method that has it where the run's own does not."""
    section, _, name = key.partition(".")
    new = f"masker.{name}" if section == "masker" else RENAMED.get(name, name)
    having = [other for other in (method, *METHODS) if new.rstrip(".") in _options_of(other)]
    if not having:
        return f"such as {method}: {{KEY: VALUE}}"
    here = f"{having[0]}.{new}"
    return f"write {here}" if having[0] == method else f"{method} has none such, leave it out or write {here}"


def _options_of(method: str) -> set[str]:
    found = {name for name, _ in leaves(find_options(method))}
    return found | {name[: name.rindex(".")] for name in found if "." in name}
