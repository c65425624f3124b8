"""Guidance of a classifier by a mask, wherever the mask comes from (`masks/`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Forward, Losses
from align_dist.methods.masked import Masked
from align_dist.methods.options import GuidedOptions
from align_dist.methods.regularised import Regularised
from align_dist.methods.versions import Seen, of_another, see

G = TypeVar("G", bound=GuidedOptions)


class Guided(Masked[G], Regularised[G]):
    """A method whose classifier is ALIGN's: guided by its Grad-CAM, its pictures, or both, and regularised."""

    def seen(
        self, classifier: Forward, batch: Batch, mask: Tensor | None, more: Mapping[str, Tensor] = MappingProxyType({})
    ) -> dict[str, Seen]:
        """What the classifier makes of the versions of a batch's images that `guided_loss` needs, and of more."""
        versions = {"image": batch.images, **self.mixtures(batch), **self.exchanges(batch, mask)}
        explain = mask is not None or "mixture" in versions
        return see(classifier, {**versions, **more}, batch.labels, explain)

    def guided_loss(self, seen: Mapping[str, Seen], batch: Batch, mask: Tensor | None) -> Losses:
        """L_cls + λ3 L_egl + λ4 L_reg, and of ours `exchange`; in warm-up, without a mask, L_cls + λ4 L_reg.

        mask: (B, H, W) in [0, 1].
        """
        return {
            "classification": (1.0, objectives.classification(seen["image"].logits, batch.labels)),
            **self.guidance(seen, mask, batch.labels),
            **self.regulariser(seen, batch),
            **_described(mask),
        }

    def exchanges(self, batch: Batch, mask: Tensor | None) -> dict[str, Tensor]:
        """With `exchange`: what each mask marks, with the rest of another image around it; nothing without a mask."""
        if mask is None or self.options.exchange == 0:
            return {}
        return {"exchanged": objectives.exchanged(batch.images, mask, of_another(batch.images))}

    def guidance(self, seen: Mapping[str, Seen], mask: Tensor | None, labels: Tensor) -> Losses:
        """λ3 L_egl of `image` and its mask (B, H, W), L_cls of `exchanged`; nothing without a mask."""
        if mask is None:
            return {}
        chosen = self.options
        value = objectives.guidance(
            seen["image"].map,
            mask,
            chosen.cam_normalisation,
            chosen.guidance_resolution,
            chosen.cam_epsilon,
            self.places,
        )
        losses: Losses = {"guidance": (chosen.lambda3, value)}
        if "exchanged" not in seen:
            return losses
        return {**losses, "exchange": (chosen.exchange, objectives.classification(seen["exchanged"].logits, labels))}


def _described(mask: Tensor | None) -> Losses:
    """What is shown of the masks that guide."""
    if mask is None:
        return {}
    return {"mask/area": (None, mask.mean()), "mask/binariness": (None, (2 * mask - 1).abs().mean())}
