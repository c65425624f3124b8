"""Guidance of Grad-CAM by a mask, wherever the mask comes from (`masks/`)."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from align_dist import objectives
from align_dist.methods.base import Losses, Method
from align_dist.methods.options import GuidedOptions

G = TypeVar("G", bound=GuidedOptions)


class Guided(Method[G]):
    """A method whose classifier's Grad-CAM is guided once warm-up is over."""

    def is_guided(self, step: int) -> bool:
        """Whether warm-up is over at this step."""
        return step >= self.context.clock.warmup

    def guidance(self, cam: Tensor | None, mask: Tensor | None) -> Losses:
        """λ3 L_egl of signed maps (B, h, w) and masks (B, H, W); nothing without a mask."""
        if cam is None or mask is None:
            return {}
        chosen = self.options
        value = objectives.guidance(
            cam, mask, chosen.cam_normalisation, chosen.guidance_resolution, chosen.cam_epsilon
        )
        return {"guidance": (chosen.lambda3, value)}
