"""Guidance of a classifier by a mask from any source (`masks/`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Forward, Losses
from align_dist.methods.masked import Masked
from align_dist.methods.regularised import Regularised
from align_dist.methods.versions import Outputs, forward_versions, other_image_values
from align_dist.options import GuidedOptions

G = TypeVar("G", bound=GuidedOptions)


class Guided(Masked[G], Regularised[G]):
    """A method with ALIGN's classifier loss: guidance of Grad-CAM, exchanged backgrounds or both, and L_reg."""

    def outputs(
        self, classifier: Forward, batch: Batch, mask: Tensor | None, extra: Mapping[str, Tensor] = MappingProxyType({})
    ) -> dict[str, Outputs]:
        """The classifier's outputs for the versions of a batch that `guided_loss` needs, and for extra versions."""
        versions = {"image": batch.images, **self.mixtures(batch), **self.exchanges(batch, mask)}
        explain = mask is not None or "mixture" in versions
        return forward_versions(classifier, {**versions, **extra}, batch.labels, explain)

    def guided_loss(self, outputs: Mapping[str, Outputs], batch: Batch, mask: Tensor | None) -> Losses:
        """L_cls + λ3 L_egl + λ4 L_reg, and optionally `exchange`; in warm-up, without a mask, L_cls + λ4 L_reg.

        mask: (B, H, W) in [0, 1].
        """
        return {
            "classification": (1.0, objectives.classification(outputs["image"].logits, batch.labels)),
            **self.guidance(outputs, mask, batch.labels),
            **self.regulariser(outputs, batch),
            **_mask_statistics(mask),
        }

    def exchanges(self, batch: Batch, mask: Tensor | None) -> dict[str, Tensor]:
        """Each mask's region on the background of another image, with `exchange`; empty without a mask."""
        if mask is None or self.options.exchange == 0:
            return {}
        return {"exchanged": objectives.exchange_background(batch.images, mask, other_image_values(batch.images))}

    def guidance(self, outputs: Mapping[str, Outputs], mask: Tensor | None, labels: Tensor) -> Losses:
        """λ3 L_egl of `image` and its mask (B, H, W), L_cls of `exchanged`, each weighted by `image_weight`; empty
        without a mask.
        """
        if mask is None:
            return {}
        options, weight = self.options, self.image_weight(mask)
        value = objectives.guidance(
            outputs["image"].map,
            mask,
            options.cam_normalisation,
            options.guidance_resolution,
            options.cam_epsilon,
            self.places,
            weight,
        )
        losses: Losses = {"guidance": (options.lambda3, value)}
        if "exchanged" not in outputs:
            return losses
        return {
            **losses,
            "exchange": (
                options.exchange,
                objectives.weighted_classification(outputs["exchanged"].logits, labels, weight),
            ),
        }


def _mask_statistics(mask: Tensor | None) -> Losses:
    """Mean area and binariness of the guiding masks, for the log."""
    if mask is None:
        return {}
    return {"mask/area": (None, mask.mean()), "mask/binariness": (None, (2 * mask - 1).abs().mean())}
