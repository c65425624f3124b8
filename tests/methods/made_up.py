"""Small made-up methods, each for one part of the contract that methods of the product do not need yet.

Importing this registers them.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.options import Options
from align_dist.options.registry import METHODS, Entry
from align_dist.parallel.engine import input_gradient


class Salient(Method[Options]):
    """SGT's half: the image without the pixels whose input gradient, in evaluation mode, is small."""

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.both}

    def prepare(self, batch: Batch, step: int) -> Batch:
        gradient = input_gradient(self.classifier, batch.images, batch.labels).mean(1, keepdim=True)
        mask = gradient > gradient.mean((2, 3), keepdim=True)
        return replace(batch, values={**batch.values, "kept": mask})

    def both(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        images = torch.cat([batch.images, batch.images * batch.values["kept"]])
        plain, masked = classifier(images).chunk(2)
        return {
            "classification": (1.0, objectives.classification(plain, batch.labels)),
            "masked": (0.5, objectives.classification(masked, batch.labels)),
        }


MADE_UP = {"made_up_" + cls.__name__.lower(): cls for cls in (Salient,)}
METHODS.update({name: Entry(f"made_up:{cls.__name__}") for name, cls in MADE_UP.items()})
sys.modules["align_dist.methods.made_up"] = sys.modules[__name__]
