"""Pictures of image, attribution, mask and overlay, of images chosen by rule: the first of each class, by domain.

While a run trains they are of the sources' validation part; test pictures are drawn once, by the trained weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align_dist.attribution import saliency, size_of
from align_dist.data.batch import Batch
from align_dist.data.sample_keys import unaugmented
from align_dist.networks.backbones import to_pixels
from align_dist.parallel.engine import frozen
from align_dist.training.monitor import Monitor

if TYPE_CHECKING:
    from align_dist.assembly import Assembly
    from align_dist.runs.folder import RunFolder

Ids = NDArray[np.int64]
MOST_IMAGES = 8


def choose(samples: Ids, labels: Ids, most: int = MOST_IMAGES) -> Ids:
    """Up to `most` samples, classes by turns, in the order of ids: a rule, so no picture is picked."""
    ranks = np.empty(len(samples), np.int64)
    for label in np.unique(labels[samples]):
        members = np.flatnonzero(labels[samples] == label)
        ranks[members] = np.arange(len(members))
    return samples[np.lexsort((labels[samples], ranks))][:most]


def draw_validation(run: Assembly, folder: RunFolder, step: int, monitor: Monitor) -> None:
    """A sheet `validation-<domain>` for each source domain: nothing that training must not see."""
    domains = np.asarray(run.manifest.domain_indices)[run.split.validation]
    parts = {run.manifest.domains[index]: run.split.validation[domains == index] for index in np.unique(domains)}
    draw_pictures(run, folder, {f"validation-{domain}": samples for domain, samples in parts.items()}, step, monitor)


def draw_tests(run: Assembly, folder: RunFolder, step: int) -> None:
    """A sheet for each test domain, of a run that is trained to its end."""
    monitor = Monitor(run, folder, step)
    try:
        draw_pictures(run, folder, run.split.tests, step, monitor)
    finally:
        monitor.close()


def draw_pictures(run: Assembly, folder: RunFolder, parts: Mapping[str, Ids], step: int, monitor: Monitor) -> None:
    """A sheet for each part, to TensorBoard and to `pictures/<part>.png`, the newest in place."""
    from align_dist.training.contact_sheet import contact_sheet

    for part, samples in parts.items():
        shown = choose(samples, run.loader.labels)
        (batch,) = run.loader.batches_of(unaugmented(shown), len(shown))
        columns, captions = explain_batch(run, batch)
        sheet = contact_sheet(columns, captions)
        folder.pictures.mkdir(parents=True, exist_ok=True)
        sheet.save(folder.pictures / f"{Path(part).name}.png")
        pixels = torch.from_numpy(np.array(sheet.convert("RGB"))).permute(2, 0, 1) / 255
        monitor.picture(step, f"explanations/{part}", pixels)


def explain_batch(run: Assembly, batch: Batch) -> tuple[dict[str, Tensor], list[str]]:
    """Columns of a sheet, and a caption `true → predicted` for each image."""
    from align_dist.training.contact_sheet import overlay

    options = run.config.classifier
    images = to_pixels(batch.images, options.backbone)
    with torch.no_grad(), frozen(run.method.classifier) as classifier:
        logits, cam = classifier(batch.images, explain=batch.labels)
    attribution = saliency(cam, size_of(images), run.method.places)
    name = {"grad_cam": "Grad-CAM"}.get(options.attribution, options.attribution.replace("_", " "))
    columns = {"image": images, name: attribution, "overlay": overlay(images, attribution)}
    mask = run.method.learned_mask(batch)
    if mask is not None:
        columns |= {"mask": mask, "masked": images * mask[:, None]}
    names = run.manifest.classes
    pairs = zip(batch.labels.tolist(), logits.argmax(1).tolist(), strict=True)
    return columns, [f"{names[true]} → {names[predicted]}" for true, predicted in pairs]
