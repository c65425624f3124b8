"""Methods by name. Light to import: a method's file is loaded when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from align_dist.errors import ConfigError, nearest_name

if TYPE_CHECKING:
    from align_dist.methods.base import Method

# name: (module in align_dist.methods, class)
METHODS = {
    "erm": ("erm", "ERM"),
    "align": ("align", "ALIGN"),
    "fixed_mask": ("fixed_mask", "FixedMask"),
}


def check_method(name: str) -> None:
    """Raises ConfigError for an unknown name."""
    if name not in METHODS:
        raise ConfigError(f"method: unknown {name!r}{nearest_name(name, METHODS)}; known: {', '.join(METHODS)}")


def find_method(name: str) -> type[Method]:
    """The class of a method. Raises ConfigError for an unknown name."""
    check_method(name)
    module, cls = METHODS[name]
    found: type[Method] = getattr(import_module(f"align_dist.methods.{module}"), cls)
    return found
