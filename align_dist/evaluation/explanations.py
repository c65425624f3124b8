"""Explanation metrics of a run's current networks, image by image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align_dist import attribution
from align_dist.attribution import size_of
from align_dist.data.batch import Batch
from align_dist.evaluation import faithfulness, localisation
from align_dist.evaluation.inference import over_batches
from align_dist.networks.classifier import predict
from align_dist.parallel.engine import frozen

if TYPE_CHECKING:
    from align_dist.assembly import Assembly

Ids = NDArray[np.int64]
INSERTION, DELETION = "insertion_curve", "deletion_curve"


def explain(run: Assembly, samples: Ids, with_deletion: bool = True) -> dict[str, Tensor]:
    """Faithfulness and localisation of each sample, (N,) by metric; NaN for an image without an object. The curves are
    (N, points). Collective.

    with_deletion: also measure deletion, which takes as many forward passes as insertion.
    """
    with torch.no_grad(), frozen(run.method.classifier) as classifier:

        def work(batch: Batch) -> dict[str, Tensor]:
            values = _explain_batch(run, classifier, batch, with_deletion)
            return {name: tensor.float().cpu() for name, tensor in values.items()}

        batch_values = over_batches(run.loader, samples, run.config.evaluation.batch_size, run.group, work)
    return {name: torch.cat([values[name] for values in batch_values]) for name in batch_values[0]}


def means_of(explanations: dict[str, Tensor]) -> dict[str, float]:
    """Means over images of `explain`'s metrics; NaN is left out, and so are the curves."""
    return {name: float(values.nanmean()) for name, values in explanations.items() if values.ndim == 1}


def _explain_batch(run: Assembly, classifier: torch.nn.Module, batch: Batch, with_deletion: bool) -> dict[str, Tensor]:
    """Explanation metrics per image, (B,) each, and curves, for attributions of the true class."""
    settings, size = run.config.evaluation, size_of(batch.images)
    cam = classifier(batch.images, explain=batch.labels).cam
    saliency = attribution.saliency(cam, size, run.method.places)

    def probability(images: Tensor) -> Tensor:
        return predict(classifier, images)

    pixels = -(-size[0] * size[1] // settings.insertion_steps)
    insertion = faithfulness.insertion_curve(probability, batch.images, saliency, pixels_per_step=pixels)
    sufficiency, comprehensiveness = faithfulness.sufficiency_comprehensiveness(
        probability, batch.images, saliency, fill=settings.fill
    )
    values = {
        INSERTION: insertion,
        "insertion_auc": faithfulness.area_under(insertion),
        "sufficiency": sufficiency,
        "comprehensiveness": comprehensiveness,
    }
    if with_deletion:
        deletion = faithfulness.deletion_curve(probability, batch.images, saliency, pixels_per_step=pixels)
        values |= {DELETION: deletion, "deletion_auc": faithfulness.area_under(deletion)}
    if settings.soft:
        soft = faithfulness.soft_sufficiency_comprehensiveness(probability, batch.images, saliency)
        values |= {"soft_sufficiency": soft[0], "soft_comprehensiveness": soft[1]}
    return values | _localisation_of(run, batch, saliency)


def _localisation_of(run: Assembly, batch: Batch, saliency: Tensor) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    mask = run.method.learned_mask(batch)
    if mask is not None:
        values |= {"mask_area": localisation.mask_area(mask), "mask_binariness": localisation.binariness(mask)}
    if batch.masks is not None:
        values |= {
            "energy_inside": localisation.energy_inside(saliency, batch.masks),
            "pointing_game": localisation.pointing_game(saliency, batch.masks),
        }
        if mask is not None:
            values["mask_iou"] = localisation.mask_iou(mask, batch.masks)
    return values
