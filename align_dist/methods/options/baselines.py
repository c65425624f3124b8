"""Options of the methods of explanation that ALIGN is compared with (paper.md sections 1.4 and 3)."""

from __future__ import annotations

from typing import Literal

from align_dist.methods.options.base import Options
from align_dist.methods.options.guided import FixedSourceOptions, RegularisedOptions
from align_dist.schema.distributions import Choice, LogUniform, Uniform
from align_dist.schema.values import Fraction, Weight, option


class HaicsOptions(FixedSourceOptions):
    """weight: of the cross-entropy between Grad-CAM and the mask; 1 in the code of RES, which has the method."""

    weight: Weight = option(1.0, after_warmup=True, search=LogUniform(loguniform=(0.1, 10.0)))


class GradiaOptions(FixedSourceOptions):
    """weight: of the distance between Grad-CAM and the mask; 1 in its code, which has an option and does not use it."""

    weight: Weight = option(1.0, after_warmup=True, search=LogUniform(loguniform=(0.1, 10.0)))


class CareOptions(FixedSourceOptions):
    """weight: α, the share of attention in the loss; cross-entropy has the rest. inner_threshold: τ, the mean of
    Grad-CAM inside the mask beyond which more is no gain. The defaults are ours: its code reads both from a file that
    is not public.
    """

    weight: Fraction = option(0.5, after_warmup=True, search=Uniform(uniform=(0.05, 0.95)))
    inner_threshold: Fraction = option(0.5, after_warmup=True, search=Uniform(uniform=(0.1, 1.0)))


class ResOptions(FixedSourceOptions):
    """weight: of both terms of supervision, 1 in its code. slack: η, the disagreement with a mask that costs nothing,
    for masks are inaccurate.
    """

    weight: Weight = option(1.0, after_warmup=True, search=LogUniform(loguniform=(0.1, 10.0)))
    slack: Weight = option(0.1, after_warmup=True, search=Uniform(uniform=(0.0, 0.5)))


class DreOptions(RegularisedOptions):
    """lambda4: the weight of L_reg, 1 in DRE's code; ALIGN's name for it. regulariser_sparsity: `mean` is what DRE's
    paper means, `column_maximum` what its code computes.
    """

    lambda4: Weight = option(1.0, search=LogUniform(loguniform=(0.1, 10.0)))


class SgtOptions(Options):
    """weight: λ of the divergence between what is said of the two versions. fraction: ρ, the share of pixels that is
    replaced. replacement: by random values, or by the mean of their colour channel.
    """

    weight: Weight = option(1.0, search=LogUniform(loguniform=(0.1, 10.0)))
    fraction: Fraction = option(0.5, search=Choice(choice=(0.1, 0.3, 0.5, 0.7)))
    replacement: Literal["random", "mean"] = "random"
