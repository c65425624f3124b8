"""Attributions of pictures and of the same pictures moved: what measures of collapse are taken of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from align_dist.attribution import size_of
from align_dist.data.batch import Batch
from align_dist.data.loader import Loader
from align_dist.evaluation.collapse import collapse
from align_dist.evaluation.inference import over_batches
from align_dist.parallel.engine import Engine, frozen
from align_dist.parallel.group import Group
from align_dist.places import Places, evenly_placed


class MovedMaps(NamedTuple):
    """Attributions (B, h, w) of the true class, signed, as guidance has it; see `collapse`."""

    maps: Tensor
    even: Tensor
    mirrored: Tensor
    shifted: Tensor


def shift_of(width: int) -> int:
    """By how many of a map's `width` columns its picture is shifted: a third, so that most of the picture stays."""
    return max(1, width // 3)


def moved_maps(classifier: torch.nn.Module, images: Tensor, labels: Tensor, places: Places | None) -> MovedMaps:
    """Maps of images (B, 3, H, W), of these mirrored and of these shifted to the right, where mean colour comes in."""

    def cam(shown: Tensor) -> Tensor:
        found: Tensor = classifier(shown, explain=labels).cam
        return found.float()

    maps = cam(images)
    width = images.shape[3]
    pixels = round(shift_of(maps.shape[2]) * width / maps.shape[2])
    even, mirrored = (evenly_placed(some, places, size_of(images)) for some in (maps, cam(images.flip(3))))
    return MovedMaps(maps, even, mirrored, cam(pad(images, (pixels, 0))[..., :width]))


def collapse_on(
    classifier: Engine, loader: Loader, samples: NDArray[np.int64], batch_size: int, group: Group
) -> dict[str, float]:
    """The measures of `collapse` over samples, unaugmented. Collective."""
    module: Any = classifier.module
    with torch.no_grad(), frozen(classifier) as network:

        def work(batch: Batch) -> MovedMaps:
            return MovedMaps(*(maps.cpu() for maps in moved_maps(network, batch.images, batch.labels, module.places)))

        found = over_batches(loader, samples, batch_size, group, work)
    whole = MovedMaps(*(torch.cat(maps) for maps in zip(*found, strict=True)))
    return collapse(*whole, shift_of(whole.maps.shape[2]))
