"""Guidance of a classifier by a mask, wherever the mask comes from (`masks/`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Losses
from align_dist.methods.masked import Masked
from align_dist.methods.options import GuidedOptions
from align_dist.methods.versions import Seen, of_another

G = TypeVar("G", bound=GuidedOptions)


class Guided(Masked[G]):
    """A method whose classifier is guided as ALIGN's: its Grad-CAM, its pictures, or both."""

    def exchanges(self, batch: Batch, mask: Tensor | None) -> dict[str, Tensor]:
        """With `exchange`: what each mask marks, with the rest of another image around it; nothing without a mask."""
        if mask is None or self.options.exchange == 0:
            return {}
        return {"exchanged": objectives.exchanged(batch.images, mask, of_another(batch.images))}

    def guidance(self, seen: Mapping[str, Seen], mask: Tensor | None, labels: Tensor) -> Losses:
        """λ3 L_egl of `image` and its mask (B, H, W), L_cls of `exchanged`; nothing without a mask."""
        if mask is None:
            return {}
        chosen, losses = self.options, dict[str, tuple[float | None, Tensor]]()
        value = objectives.guidance(
            seen["image"].map, mask, chosen.cam_normalisation, chosen.guidance_resolution, chosen.cam_epsilon
        )
        losses["guidance"] = (chosen.lambda3, value)
        if "exchanged" in seen:
            losses["exchange"] = (chosen.exchange, objectives.classification(seen["exchanged"].logits, labels))
        return losses
