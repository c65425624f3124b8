"""ALIGN's options: λ1 to λ4 and every choice that the paper leaves open (paper.md section 1.2)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from align_dist.errors import ConfigError
from align_dist.methods.clock import Clock
from align_dist.methods.options.guided import GuidedOptions
from align_dist.schema.distributions import LogUniform
from align_dist.schema.text import Described
from align_dist.schema.values import Count, Duration, OptimiserConfig, Positive, Weight, option

LITE = "efficientnet_lite0"


class MaskerOptions(Described):
    """area: the mask's mean before training. The optimiser's clock starts when the masker begins to learn."""

    kind: Literal["small", "large", "pretrained"] = "small"
    width: Count = 16
    area: Annotated[float, Field(gt=0, lt=1)] = 0.5
    optimiser: OptimiserConfig = OptimiserConfig(learning_rate=1e-3)


class AlignOptions(GuidedOptions):
    """λ1 sparsity, λ2 smoothness of the mask, λ3 guidance, λ4 regulariser.

    masker_head_start: how long before the end of warm-up the masker begins to learn, so that the first masks that
    guide have something to say (0 is the paper's wording). masker_length: how long it learns; left out, to the
    run's end (the paper's wording). sparsity_ramp: how long λ1 takes to its value once the masker learns, the first
    half of it at 0, so that the masker finds something before it shrinks (0 is the paper's wording). alternation:
    the masker and the classifier take turns every batch, or every epoch; or both follow, at once, the gradient of the
    sum of their losses, nothing fixed (joint, an ablation; BatchNorm that learns then sees what masks mark and leave
    as well). mask_sampling: L_dist sees the mask itself
    (none, the paper's wording), or a nearly binary sample of it (relaxed), whose noise is drawn on a grid of
    `sampling_grid` places a side; see align_dist/sampling.py. removed_pixels: what L_dist shows where the mask
    takes something away: the mean colour (the paper's x ⊙ M), or another image of the batch. evidence: whose
    evidence a mask marks: that of the classifier for the true class (the paper's wording), or that of a fixed
    network with ImageNet's weights for the `evidence_classes` classes that it finds likeliest in the whole image.
    """

    lambda1: Weight = option(1.0, after_warmup=True, search=LogUniform(loguniform=(0.3, 30.0)))
    lambda2: Weight = option(0.1, after_warmup=True, search=LogUniform(loguniform=(0.01, 1.0)))
    masker: MaskerOptions = option(MaskerOptions(), after_warmup=True)
    masker_head_start: Duration = option("0 epochs", after_warmup=True)
    masker_length: Duration | None = option(None, after_warmup=True)
    sparsity_ramp: Duration = option("0 epochs", after_warmup=True)
    smoothness: Literal["absolute", "squared"] = option("absolute", after_warmup=True)
    alternation: Literal["batch", "epoch", "joint"] = option("batch", after_warmup=True)
    mask_sampling: Literal["none", "relaxed"] = option("none", after_warmup=True)
    sampling_grid: Count = option(12, after_warmup=True)
    sampling_temperature: Positive = option(0.3, after_warmup=True)
    removed_pixels: Literal["mean_colour", "another_image"] = option("mean_colour", after_warmup=True)
    evidence: Literal["classifier", "efficientnet_lite0", "resnet18", "resnet50"] = option(
        "classifier", after_warmup=True
    )
    evidence_classes: Annotated[int, Field(ge=1, le=999)] = option(10, after_warmup=True)

    @property
    def part_multiple(self) -> int:
        return max(super().part_multiple, 2 if self.removed_pixels == "another_image" else 1)

    def begins(self, clock: Clock) -> int:
        """The step at which the masker begins to learn."""
        return max(0, clock.warmup - clock.steps(self.masker_head_start))

    def ends(self, clock: Clock) -> int:
        """The step from which on the masker no longer learns."""
        if self.masker_length is None:
            return clock.length
        return min(clock.length, self.begins(clock) + clock.steps(self.masker_length))

    def check(self, clock: Clock) -> None:
        head_start, ramp = clock.steps(self.masker_head_start), clock.steps(self.sparsity_ramp)
        if head_start > clock.warmup:
            raise ConfigError(
                f"align.masker_head_start: {self.masker_head_start} ({head_start} steps) is longer than "
                f"training.warmup ({clock.warmup} steps); shorten it"
            )
        learns = self.ends(clock) - self.begins(clock)
        if learns < 1 and clock.warmup < clock.length:
            raise ConfigError(
                f"align.masker_length: {self.masker_length} is no step at all, masks would be those of an untrained "
                "masker; make it longer"
            )
        if self.alternation != "batch" and self.ends(clock) <= clock.warmup < clock.length:
            raise ConfigError(
                f"align.alternation: {self.alternation} is how both learn after warm-up, and here the masker has "
                "learned by then (align.masker_length); make that longer, or write batch"
            )
        if ramp > learns:
            raise ConfigError(
                f"align.sparsity_ramp: {self.sparsity_ramp} ({ramp} steps) is longer than the masker learns "
                f"({learns} steps), λ1 would never reach its value; shorten it"
            )

    def conflict(self, backbone: str) -> str | None:
        lite = backbone == LITE
        if self.masker.kind == "pretrained" and not lite:
            return (
                "masker.kind: pretrained is EfficientNet-Lite0's features and takes its pictures as that network does; "
                f"it goes with classifier.backbone={LITE}, not with {backbone}"
            )
        if self.evidence != "classifier" and lite != (self.evidence == LITE):
            return (
                f"evidence: {self.evidence} takes its pictures otherwise than {backbone}; write "
                f"align.evidence={LITE if lite else 'resnet50'}, or classifier"
            )
        return None
