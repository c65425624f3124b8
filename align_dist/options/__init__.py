"""Options of the methods: defaults, ranges, effect in warm-up, search space. Imports no torch."""

from __future__ import annotations

from align_dist.options.align import AlignOptions, MaskerOptions
from align_dist.options.base import Options
from align_dist.options.guided import (
    FixedMaskOptions,
    FixedSourceOptions,
    GuidedOptions,
    MaskedOptions,
    RegularisedOptions,
)

__all__ = [
    "AlignOptions",
    "FixedMaskOptions",
    "FixedSourceOptions",
    "GuidedOptions",
    "MaskedOptions",
    "MaskerOptions",
    "Options",
    "RegularisedOptions",
]
