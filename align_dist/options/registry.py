"""Methods by name. Imports no torch: a method's module is imported when the method is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from align_dist.errors import ConfigError, nearest_name
from align_dist.options import AlignOptions, FixedMaskOptions, Options
from align_dist.options.baselines import (
    CareOptions,
    DreOptions,
    GradiaOptions,
    HaicsOptions,
    ResOptions,
    SgtOptions,
)
from align_dist.options.general import CGCOptions, GroupDROOptions, IRMOptions, MixupOptions, RSCOptions


class Entry(NamedTuple):
    """path: `module:Class` in align_dist.methods. options: the options model; None for the class's `options_type`,
    which imports the method and torch.
    """

    path: str
    options: type[Options] | None = None


METHODS = {
    "erm": Entry("erm:ERM", Options),
    "align": Entry("align:ALIGN", AlignOptions),
    "fixed_mask": Entry("fixed_mask:FixedMask", FixedMaskOptions),
    "haics": Entry("haics:HAICS", HaicsOptions),
    "gradia": Entry("gradia:GRADIA", GradiaOptions),
    "care": Entry("care:CARE", CareOptions),
    "res": Entry("res:RES", ResOptions),
    "dre": Entry("dre:DRE", DreOptions),
    "sgt": Entry("sgt:SGT", SgtOptions),
    "mixup": Entry("mixup:Mixup", MixupOptions),
    "irm": Entry("irm:IRM", IRMOptions),
    "groupdro": Entry("groupdro:GroupDRO", GroupDROOptions),
    "rsc": Entry("rsc:RSC", RSCOptions),
    "cgc": Entry("cgc:CGC", CGCOptions),
}


def find_entry(name: str) -> Entry:
    """The registry entry of a method. Raises ConfigError for an unknown name."""
    if name not in METHODS:
        raise ConfigError(f"method: unknown {name!r}{nearest_name(name, METHODS)}; known: {', '.join(METHODS)}")
    return METHODS[name]


def find_options(name: str) -> type[Options]:
    """The options model of a method. Raises ConfigError for an unknown name."""
    return find_entry(name).options or load_class(name).options_type


def load_class(name: str) -> type[Any]:
    """Import a method's class, and torch with it; typed by `methods.base.find_method`.

    Raises ConfigError for an unknown name.
    """
    module, _, class_name = find_entry(name).path.partition(":")
    loaded: type[Any] = getattr(import_module(f"align_dist.methods.{module}"), class_name)
    return loaded
