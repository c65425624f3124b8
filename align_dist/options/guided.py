"""Options that several methods share: guidance by masks, fixed masks, DRE's regulariser."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from align_dist.options.base import Options
from align_dist.options.clock import Clock
from align_dist.schema.distributions import Choice, LogUniform
from align_dist.schema.values import Fraction, Weight, option


class MaskedOptions(Options):
    """Guidance by masks after warm-up.

    shuffled: whether each image is guided by another image's mask, a control.
    """

    shuffled: bool = option(False, after_warmup=True)

    @property
    def is_guided(self) -> bool:
        return True

    @property
    def part_divisor(self) -> int:
        return 4 if self.shuffled else 1

    def shared_warmup(self, clock: Clock) -> int:
        return clock.warmup


class FixedSourceOptions(MaskedOptions):
    """mask: the source of fixed masks (`methods/masks/fixed.py`). constant: the value of the constant mask. erosion:
    number of pixels of the training image by which a given mask shrinks from every side, to a strict subset of the
    object.
    """

    mask: Literal["constant", "gaussian", "grey", "given"] = option("given", after_warmup=True)
    constant: Fraction = option(1.0, after_warmup=True)
    erosion: Annotated[int, Field(ge=0)] = option(0, after_warmup=True)

    @property
    def reads_masks(self) -> bool:
        return self.mask == "given"

    def conflict(self, backbone: str) -> str | None:
        if self.shuffled and self.mask in ("constant", "gaussian"):
            return f"shuffled: all masks are the same with mask={self.mask}; remove it"
        if self.erosion > 0 and self.mask != "given":
            return f"erosion: shrinks given masks, and mask is {self.mask}; set mask=given or remove it"
        return super().conflict(backbone)


class RegularisedOptions(Options):
    """DRE's mixup regulariser: λ4, and its kind of sparsity (`objectives.attribution_sparsity`).

    λ4 acts in warm-up, so a search has only a few choices of λ4, for trials to share their warm-up.
    """

    lambda4: Weight = option(1.0, search=Choice(choice=(0.0, 0.3, 1.0)))
    regulariser_sparsity: Literal["mean", "column_maximum"] = "mean"

    @property
    def has_erm_warmup(self) -> bool:
        return self.lambda4 == 0


class GuidedOptions(MaskedOptions, RegularisedOptions):
    """ALIGN's classifier loss: λ3 and how Grad-CAM is compared with the mask (`objectives.guidance`), λ4.

    exchange: the weight of the cross-entropy on images whose background outside the mask comes from another image (0 is
    the paper's wording).
    """

    lambda3: Weight = option(1.0, after_warmup=True, search=LogUniform(loguniform=(0.3, 10.0)))
    cam_normalisation: Literal["minmax", "relu_max"] = option("minmax", after_warmup=True)
    cam_epsilon: Annotated[float, Field(ge=1e-4, lt=0.5)] = option(1e-2, after_warmup=True)
    guidance_resolution: Literal["map", "image"] = option("map", after_warmup=True)
    exchange: Weight = option(0.0, after_warmup=True)

    @property
    def part_divisor(self) -> int:
        return max(super().part_divisor, 2 if self.exchange > 0 else 1)


class FixedMaskOptions(FixedSourceOptions, GuidedOptions):
    """ALIGN's classifier loss with a fixed mask in place of the masker's."""

    mask: Literal["constant", "gaussian", "grey", "given"] = option("constant", after_warmup=True)
