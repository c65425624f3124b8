"""Options of what several methods share: guidance by a mask, DRE's regulariser; and of the fixed masks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from align_dist.methods.clock import Clock
from align_dist.methods.options.base import Options
from align_dist.schema.distributions import Choice, LogUniform
from align_dist.schema.values import Fraction, Weight, option


class MaskedOptions(Options):
    """Guidance by masks, whatever is compared with them, once warm-up is over.

    shuffled: guides each image by another one's mask, a control.
    """

    shuffled: bool = option(False, after_warmup=True)

    @property
    def part_multiple(self) -> int:
        return 4 if self.shuffled else 1

    def begins(self, clock: Clock) -> int:
        return clock.warmup


class FixedSourceOptions(MaskedOptions):
    """mask: where masks that nobody learns come from (`methods/masks/fixed.py`). constant: the value of that kind.
    erosion: by how many pixels of the training picture a given mask shrinks from every side, to a strict subset of the
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
            return f"shuffled: every mask is the same with mask={self.mask}, another image's too; leave it out"
        if self.erosion > 0 and self.mask != "given":
            return f"erosion: shrinks given masks, and here mask={self.mask}; write mask=given or leave it out"
        return super().conflict(backbone)


class RegularisedOptions(Options):
    """DRE's mixup regulariser: λ4, and how its sparsity is read (`objectives.attribution_sparsity`).

    λ4 acts in warm-up: a search takes it from a few choices, so that trials share their warm-up.
    """

    lambda4: Weight = option(1.0, search=Choice(choice=(0.0, 0.3, 1.0)))
    regulariser_sparsity: Literal["mean", "column_maximum"] = "mean"

    @property
    def plain_warmup(self) -> bool:
        return self.lambda4 == 0


class GuidedOptions(MaskedOptions, RegularisedOptions):
    """ALIGN's classifier: λ3 and how Grad-CAM is compared with the mask (`objectives.guidance`), λ4.

    exchange: the weight of the cross-entropy on exchanged pictures, in which what a mask marks has another image's rest
    around it (0 is the paper's wording).
    """

    lambda3: Weight = option(1.0, after_warmup=True, search=LogUniform(loguniform=(0.3, 10.0)))
    cam_normalisation: Literal["minmax", "relu_max"] = option("minmax", after_warmup=True)
    cam_epsilon: Annotated[float, Field(ge=1e-4, lt=0.5)] = option(1e-2, after_warmup=True)
    guidance_resolution: Literal["map", "image"] = option("map", after_warmup=True)
    exchange: Weight = option(0.0, after_warmup=True)

    @property
    def part_multiple(self) -> int:
        return max(super().part_multiple, 2 if self.exchange > 0 else 1)


class FixedMaskOptions(FixedSourceOptions, GuidedOptions):
    """ALIGN's classifier with a mask that is not learned in place of the masker's."""

    mask: Literal["constant", "gaussian", "grey", "given"] = option("constant", after_warmup=True)
