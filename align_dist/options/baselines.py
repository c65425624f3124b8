"""Options of the explanation-guided baselines; each method's file has their sources."""

from __future__ import annotations

from typing import Literal

from align_dist.options.base import Options
from align_dist.options.guided import FixedSourceOptions, RegularisedOptions
from align_dist.schema.distributions import Choice, LogUniform, Uniform
from align_dist.schema.values import Fraction, Weight, option


class HaicsOptions(FixedSourceOptions):
    """weight: of the cross-entropy between Grad-CAM and the mask; 1 in RES's code, which implements the method."""

    weight: Weight = option(1.0, after_warmup=True, search=LogUniform(loguniform=(0.1, 10.0)))


class GradiaOptions(FixedSourceOptions):
    """weight: of the distance between Grad-CAM and the mask; 1 in the authors' code, which ignores its own option."""

    weight: Weight = option(1.0, after_warmup=True, search=LogUniform(loguniform=(0.1, 10.0)))


class CareOptions(FixedSourceOptions):
    """weight: α, the share of attention in the loss; the rest is cross-entropy. inner_threshold: τ, the mean of
    Grad-CAM inside the mask that is enough. The defaults are chosen here, because the authors' config is not public.
    """

    weight: Fraction = option(0.5, after_warmup=True, search=Uniform(uniform=(0.05, 0.95)))
    inner_threshold: Fraction = option(0.5, after_warmup=True, search=Uniform(uniform=(0.1, 1.0)))


class ResOptions(FixedSourceOptions):
    """weight: of both terms of supervision, 1 in the authors' code. slack: η, the disagreement with inaccurate masks
    that costs nothing; 0 unless set otherwise in the authors' code.
    """

    weight: Weight = option(1.0, after_warmup=True, search=LogUniform(loguniform=(0.1, 10.0)))
    slack: Weight = option(0.1, after_warmup=True, search=Uniform(uniform=(0.0, 0.5)))


class DreOptions(RegularisedOptions):
    """lambda4: the weight of L_reg, named as in ALIGN; 1 in DRE's code. regulariser_sparsity: `mean` as in DRE's paper,
    `column_maximum` as in DRE's code.
    """

    lambda4: Weight = option(1.0, search=LogUniform(loguniform=(0.1, 10.0)))


class SgtOptions(Options):
    """weight: λ of the divergence between the predictions for both versions. fraction: ρ, the share of replaced pixels.
    replacement: the mean of the colour channel, or random values. absolute: whether pixels are ranked by the magnitude
    of the gradient in place of its signed value; signed, the strokes of dark ink go first, whose gradient is negative
    because they speak for the class. The defaults are those of the authors' scripts for colour images; their README's
    example, of MNIST, has a fraction of 0.5 and random values.
    """

    weight: Weight = option(1.0, search=LogUniform(loguniform=(0.1, 10.0)))
    fraction: Fraction = option(0.1, search=Choice(choice=(0.1, 0.3, 0.5, 0.7)))
    replacement: Literal["random", "mean"] = option("mean", search=Choice(choice=("random", "mean")))
    absolute: bool = option(False, search=Choice(choice=(False, True)))
