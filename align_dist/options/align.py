"""ALIGN's options: λ1 to λ4 and every choice that the paper leaves open (methods/README.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from align_dist.errors import ConfigError
from align_dist.options.clock import Clock
from align_dist.options.guided import GuidedOptions
from align_dist.schema.distributions import LogUniform
from align_dist.schema.text import Section
from align_dist.schema.values import Count, Duration, OptimiserConfig, Positive, Weight, option

LITE = "efficientnet_lite0"


class MaskerOptions(Section):
    """area: the mask's mean before training. The optimiser's schedule starts when the masker starts to learn."""

    kind: Literal["small", "large", "pretrained"] = "small"
    width: Count = 16
    area: Annotated[float, Field(gt=0, lt=1)] = 0.5
    optimiser: OptimiserConfig = OptimiserConfig(learning_rate=1e-3)


class AlignOptions(GuidedOptions):
    """λ1 sparsity, λ2 smoothness of the mask, λ3 guidance, λ4 regulariser.

    masker_head_start: how long before the end of warm-up the masker starts to learn, so that the first guiding masks
    are meaningful (0 is the paper's wording). masker_length: how long the masker learns; None for up to the run's end
    (the paper's wording). sparsity_ramp: duration of λ1's ramp after the masker's start, the first half at 0, so that
    the masker locates something before the mask shrinks (0 is the paper's wording). alternation: masker and classifier
    are updated in turn every batch or every epoch; `joint` (an ablation) updates both with the gradient of the sum of
    both losses, and a BatchNorm that is not frozen then also sees images inside and outside the mask. mask_sampling:
    L_dist uses the mask itself (none, the paper's wording) or a nearly binary sample of the mask (relaxed), with noise
    on a grid of `sampling_grid` cells per side; see align_dist/sampling.py. removed_pixels: the replacement of removed
    pixels in L_dist, the mean colour (the paper's x ⊙ M) or another image of the batch. evidence: the network whose
    evidence the mask marks, the classifier for the true class (the paper's wording) or a frozen network with ImageNet
    weights for its `evidence_classes` most likely classes of the whole image.
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
    def part_divisor(self) -> int:
        return max(super().part_divisor, 2 if self.removed_pixels == "another_image" else 1)

    def shared_warmup(self, clock: Clock) -> int:
        return self.masker_start(clock)

    def masker_start(self, clock: Clock) -> int:
        """The step at which the masker starts to learn."""
        return max(0, clock.warmup - clock.steps(self.masker_head_start))

    def masker_end(self, clock: Clock) -> int:
        """The step at which the masker stops learning."""
        if self.masker_length is None:
            return clock.length
        return min(clock.length, self.masker_start(clock) + clock.steps(self.masker_length))

    def check(self, clock: Clock) -> None:
        head_start, ramp = clock.steps(self.masker_head_start), clock.steps(self.sparsity_ramp)
        if head_start > clock.warmup:
            raise ConfigError(
                f"align.masker_head_start: {self.masker_head_start} ({head_start} steps) is longer than "
                f"training.warmup ({clock.warmup} steps); shorten it"
            )
        masker_steps = self.masker_end(clock) - self.masker_start(clock)
        if masker_steps < 1 and clock.warmup < clock.length:
            raise ConfigError(
                f"align.masker_length: {self.masker_length} is less than one step, and masks would come from an "
                "untrained masker; make it longer"
            )
        if self.alternation != "batch" and self.masker_end(clock) <= clock.warmup < clock.length:
            raise ConfigError(
                f"align.alternation: {self.alternation} needs a masker that learns after warm-up, and "
                "align.masker_length ends before; make that longer, or set batch"
            )
        if ramp > masker_steps:
            raise ConfigError(
                f"align.sparsity_ramp: {self.sparsity_ramp} ({ramp} steps) is longer than the masker learns "
                f"({masker_steps} steps), and λ1 would never reach its value; shorten it"
            )

    def conflict(self, backbone: str) -> str | None:
        is_lite = backbone == LITE
        if self.masker.kind == "pretrained" and not is_lite:
            return (
                "masker.kind: pretrained needs images normalised as for EfficientNet-Lite0; set "
                f"classifier.backbone={LITE}, not {backbone}, or another kind"
            )
        if self.evidence != "classifier" and is_lite != (self.evidence == LITE):
            return (
                f"evidence: {self.evidence} needs images normalised otherwise than for {backbone}; set "
                f"align.evidence={LITE if is_lite else 'resnet50'}, or classifier"
            )
        return None
