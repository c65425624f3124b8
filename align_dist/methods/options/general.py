"""Options of methods for generalisation that no mask guides: Mixup, IRM, GroupDRO, RSC (defaults and ranges of
DomainBed) and CGC.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from align_dist.errors import ConfigError
from align_dist.methods.clock import Clock
from align_dist.methods.options.base import Options
from align_dist.schema.distributions import Choice, LogUniform, Uniform
from align_dist.schema.values import Duration, Positive, Weight, option

Dropped = Annotated[float, Field(ge=0, lt=1)]
SEVERAL = "take protocol.kind=leave_one_out, which trains on all domains but one"


class MixupOptions(Options):
    """alpha: a mixture's shares come from Beta(alpha, alpha)."""

    alpha: Positive = option(0.2, search=LogUniform(loguniform=(0.1, 10.0)))


class IRMOptions(Options):
    """penalty: λ, from `penalty_anneal` on; before that the penalty weighs 1."""

    penalty: Weight = option(100.0, search=LogUniform(loguniform=(0.1, 1e5)))
    penalty_anneal: Duration = option("500 steps", search=Choice(choice=("10 steps", "100 steps", "500 steps")))

    def check(self, clock: Clock) -> None:
        length = clock.steps(self.penalty_anneal)
        if length >= clock.length:
            raise ConfigError(
                f"irm.penalty_anneal: {self.penalty_anneal} ({length} steps) is as long as the run "
                f"({clock.length} steps), the penalty would never reach its weight; shorten it"
            )

    def lacking(self, domains: int, groups: int) -> str | None:
        return None if domains > 1 else f"compares source domains, and here is only one; {SEVERAL}"


class GroupDROOptions(Options):
    """eta: η, how fast weights grow. over: what they are of: the benchmark's groups (class and spurious attribute), its
    source domains, or (auto) groups where it has them and else domains.
    """

    eta: Positive = option(0.01, search=LogUniform(loguniform=(1e-3, 0.1)))
    over: Literal["auto", "groups", "domains"] = "auto"

    def weighs_groups(self, groups: int) -> bool:
        """Whether weights are of groups, for a benchmark of so many."""
        return self.over == "groups" or (self.over == "auto" and groups > 0)

    def lacking(self, domains: int, groups: int) -> str | None:
        if not self.weighs_groups(groups):
            return None if domains > 1 else f"weighs source domains here, and there is only one; {SEVERAL}"
        if groups > 1:
            return None
        return f"weighs groups here, and {groups or 'none'} is known; name them (benchmark.metadata), or {SEVERAL}"


class RSCOptions(Options):
    """features: the share of features that is muted. images: the share of images in which they are. 0 mutes none."""

    features: Dropped = option(1 / 3, search=Uniform(uniform=(0.0, 0.5)))
    images: Dropped = option(1 / 3, search=Uniform(uniform=(0.0, 0.5)))


class CGCOptions(Options):
    """contrast: λ, the weight of the contrastive term. temperature: what similarities of maps are divided by."""

    contrast: Weight = option(0.5, search=LogUniform(loguniform=(0.05, 5.0)))
    temperature: Positive = option(0.5, search=LogUniform(loguniform=(0.05, 1.0)))
