"""Guidance by masks, whatever is compared with them: when it begins, and which masks guide."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.methods.masks.fixed import source_of
from align_dist.methods.options import FixedSourceOptions, MaskedOptions
from align_dist.methods.versions import of_another, see

M = TypeVar("M", bound=MaskedOptions)
F = TypeVar("F", bound=FixedSourceOptions)


class Masked(Method[M]):
    """A method whose classifier is guided by masks once warm-up is over."""

    def is_guided(self, step: int) -> bool:
        """Whether warm-up is over at this step."""
        return step >= self.context.clock.warmup

    def guiding(self, mask: Tensor) -> Tensor:
        """The mask (B, H, W) that each image is guided by: its own, or, as a control, another image's.

        Not that of the image which exchanged pictures take their rest from, whose object would always be cut out.
        """
        return of_another(mask, 4) if self.options.shuffled else mask


class FixedSource(Masked[F]):
    """A method of masks that nobody learns."""

    def masks(self, batch: Batch, step: int) -> Tensor | None:
        """The mask (B, H, W) that guides each image at a step; None in warm-up."""
        return self.guiding(source_of(self.options)(batch)) if self.is_guided(step) else None


class Supervised(FixedSource[F]):
    """Explanation supervision: L_cls in warm-up, and after it L_cls and `supervision` of Grad-CAM by the masks."""

    @abstractmethod
    def supervision(self, cam: Tensor, mask: Tensor, batch: Batch) -> Losses:
        """The terms between signed Grad-CAM of the true classes (B, h, w) and masks (B, H, W)."""

    @property
    def classification_weight(self) -> float:
        """Of L_cls beside the supervision."""
        return 1.0

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        mask = self.masks(batch, step)
        seen = see(classifier, {"image": batch.images}, batch.labels, explain=mask is not None)["image"]
        classification = objectives.classification(seen.logits, batch.labels)
        if mask is None:
            return {"classification": (1.0, classification)}
        return {
            "classification": (self.classification_weight, classification),
            **self.supervision(seen.map, mask, batch),
        }
