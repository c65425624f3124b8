"""Examples of what a classifier sees, for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from align_dist import attribution
from align_dist.attribution import size_of
from align_dist.data.batch import Batch
from align_dist.evaluation.inference import over_batches
from align_dist.evaluation.subset import subset
from align_dist.networks.backbones import to_pixels
from align_dist.parallel.engine import frozen
from align_dist.runs.details import Examples

if TYPE_CHECKING:
    from align_dist.assembly import Assembly

Ids = NDArray[np.int64]

EXAMPLES = 24
LONGEST_SIDE = 160  # pixels of an example


def examples_of(run: Assembly, samples: Ids) -> Examples:
    """Images, saliency and masks of at most 24 of the samples, the same for every run. Collective."""
    shown = subset(samples, EXAMPLES)
    with torch.no_grad(), frozen(run.method.classifier) as classifier:

        def work(batch: Batch) -> dict[str, Tensor]:
            logits, cam = classifier(batch.images, explain=batch.labels)
            confidences, predictions = logits.float().softmax(1).max(1)
            saliency = attribution.saliency(cam, size_of(batch.images), run.method.places)
            mask, none = run.method.learned_mask(batch), torch.zeros(0, 0, 0)
            tensors = {
                "labels": batch.labels,
                "predictions": predictions,
                "confidences": confidences.double(),
                "images": _bytes(to_pixels(batch.images, run.config.classifier.backbone)).movedim(1, -1),
                "saliency": _bytes(saliency[:, None])[:, 0],
                "masks": none if mask is None else _bytes(mask[:, None])[:, 0],
                "objects": none if batch.masks is None else _bytes(batch.masks[:, None])[:, 0],
            }
            return {name: tensor.cpu() for name, tensor in tensors.items()}

        parts = over_batches(run.loader, shown, run.config.evaluation.batch_size, run.group, work)
    arrays = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    return Examples(samples=shown, **arrays)


def _bytes(pictures: Tensor) -> Tensor:
    """Pictures (B, c, H, W) in [0, 1] as bytes, reduced to a longest side of 160 pixels."""
    longest = max(size_of(pictures))
    if longest > LONGEST_SIDE:
        size = [max(1, round(side * LONGEST_SIDE / longest)) for side in size_of(pictures)]
        pictures = F.interpolate(pictures.float(), size, mode="area")
    return (pictures.detach().float().clamp(0, 1) * 255).round().byte()
