"""Options of generalisation methods without masks: Mixup, IRM, GroupDRO, RSC (with ranges of DomainBed) and CGC."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from align_dist.errors import ConfigError
from align_dist.options.base import Options
from align_dist.options.clock import Clock
from align_dist.schema.distributions import Choice, LogUniform, Uniform
from align_dist.schema.values import Duration, Positive, Weight, option

Dropped = Annotated[float, Field(ge=0, lt=1)]
SEVERAL = (
    "set protocol.kind=leave_one_out protocol.source=null protocol.target=DOMAIN, which trains on all domains but one"
)


class MixupOptions(Options):
    """alpha: of Beta(alpha, alpha), the distribution of a mixture's share."""

    alpha: Positive = option(0.2, search=LogUniform(loguniform=(0.1, 10.0)))


class IRMOptions(Options):
    """penalty: λ, the penalty's weight from `penalty_anneal` on; 1 before."""

    penalty: Weight = option(100.0, search=LogUniform(loguniform=(0.1, 1e5)))
    penalty_anneal: Duration = option("500 steps", search=Choice(choice=("10 steps", "100 steps", "500 steps")))

    def check(self, clock: Clock) -> None:
        length = clock.steps(self.penalty_anneal)
        if length >= clock.length:
            raise ConfigError(
                f"irm.penalty_anneal: {self.penalty_anneal} ({length} steps) is as long as the run "
                f"({clock.length} steps), and the penalty would never reach its weight; shorten it"
            )

    def unmet_requirement(self, domains: int, groups: int) -> str | None:
        return None if domains > 1 else f"compares source domains, and there is only one; {SEVERAL}"


class GroupDROOptions(Options):
    """eta: η, the step size of the weights. over: whether groups (class and spurious attribute) or source domains are
    weighted; `auto` is groups where the benchmark has groups, else domains.
    """

    eta: Positive = option(0.01, search=LogUniform(loguniform=(1e-3, 0.1)))
    over: Literal["auto", "groups", "domains"] = "auto"

    def weighs_groups(self, groups: int) -> bool:
        """Return whether groups and not domains are weighted, for a benchmark with that number of groups."""
        return self.over == "groups" or (self.over == "auto" and groups > 0)

    def unmet_requirement(self, domains: int, groups: int) -> str | None:
        if not self.weighs_groups(groups):
            return None if domains > 1 else f"weighs source domains here, and there is only one; {SEVERAL}"
        if groups > 1:
            return None
        return f"weighs groups here, and {groups or 'none'} is known; name them (benchmark.metadata), or {SEVERAL}"


class RSCOptions(Options):
    """features: the share of muted features. images: the share of images with muted features. 0 mutes none."""

    features: Dropped = option(1 / 3, search=Uniform(uniform=(0.0, 0.5)))
    images: Dropped = option(1 / 3, search=Uniform(uniform=(0.0, 0.5)))


class CGCOptions(Options):
    """contrast: λ, the weight of the contrastive term. temperature: divisor of the similarities of maps."""

    contrast: Weight = option(0.5, search=LogUniform(loguniform=(0.05, 5.0)))
    temperature: Positive = option(0.5, search=LogUniform(loguniform=(0.05, 1.0)))
