"""Bases of methods with guidance by masks: the start of guidance, and the guiding masks."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

import torch
from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch, has_object
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.methods.masks.fixed import source_of
from align_dist.methods.versions import forward_versions, other_image_values
from align_dist.options import FixedSourceOptions, MaskedOptions

M = TypeVar("M", bound=MaskedOptions)
F = TypeVar("F", bound=FixedSourceOptions)


class Masked(Method[M]):
    """A method whose classifier is guided by masks after warm-up."""

    def is_guided(self, step: int) -> bool:
        """Return whether guidance is active at this step, after warm-up."""
        return step >= self.context.clock.warmup

    def guiding_mask(self, mask: Tensor) -> Tensor:
        """The guiding mask (B, H, W) of each image: its own, or, as a control, another image's.

        The other image is not the one that gives the background of `exchange`, whose object would always be cut out.
        """
        return other_image_values(mask, 4) if self.options.shuffled else mask

    def image_weight(self, mask: Tensor) -> Tensor:
        """Weight (B,) of each image's guidance by its guiding mask (B, H, W)."""
        return torch.ones(len(mask), device=mask.device)


class FixedSource(Masked[F]):
    """A method with fixed masks."""

    def masks(self, batch: Batch, step: int) -> Tensor | None:
        """The guiding mask (B, H, W) of each image at a step; None in warm-up."""
        return self.guiding_mask(source_of(self.options)(batch)) if self.is_guided(step) else None

    def image_weight(self, mask: Tensor) -> Tensor:
        """1, or 0 where a given mask marks no object: the image has no mask, not an empty one, and guides nothing."""
        return has_object(mask).float() if self.options.mask == "given" else super().image_weight(mask)


class Supervised(FixedSource[F]):
    """Explanation supervision: L_cls in warm-up, then L_cls and `supervision` of Grad-CAM by the masks."""

    @abstractmethod
    def supervision(self, cam: Tensor, mask: Tensor, weight: Tensor, batch: Batch) -> Losses:
        """Loss terms between signed Grad-CAM of the true classes (B, h, w) and masks (B, H, W), by image weights (B,).

        Terms are means over all images, of which one without a mask counts as 0. The sources' code takes the mean over
        the images with a mask, so that each of them weighs more in a batch where few have one.
        """

    @property
    def classification_weight(self) -> float:
        """Weight of L_cls beside the supervision."""
        return 1.0

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        mask = self.masks(batch, step)
        output = forward_versions(classifier, {"image": batch.images}, batch.labels, explain=mask is not None)["image"]
        classification = objectives.classification(output.logits, batch.labels)
        if mask is None:
            return {"classification": (1.0, classification)}
        return {
            "classification": (self.classification_weight, classification),
            **self.supervision(output.map, mask, self.image_weight(mask), batch),
        }
