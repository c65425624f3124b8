"""Attribution maps of images and of the same images mirrored and shifted, for the metrics of collapse."""

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
from align_dist.places import Places, even_grid_places, resample_to_even_grid


class MovedMaps(NamedTuple):
    """Signed attribution maps (B, h, w) of the true class, as in guidance; see `collapse`."""

    maps: Tensor
    even: Tensor
    mirrored: Tensor
    shifted: Tensor


def shift_of(width: int) -> int:
    """Number of map columns by which the image is shifted: a third of `width`, so that most of the image stays."""
    return max(1, width // 3)


def moved_maps(classifier: torch.nn.Module, images: Tensor, labels: Tensor, places: Places | None) -> MovedMaps:
    """Maps of images (B, 3, H, W), of the mirrored images, and of the images shifted right and padded with the mean
    colour.
    """

    def cam(inputs: Tensor) -> Tensor:
        attribution: Tensor = classifier(inputs, explain=labels).cam
        return attribution.float()

    maps = cam(images)
    width = images.shape[3]
    pixels = round(shift_of(maps.shape[2]) * (places or even_grid_places(width, maps.shape[2])).stride)
    even, mirrored = (resample_to_even_grid(values, places, size_of(images)) for values in (maps, cam(images.flip(3))))
    return MovedMaps(maps, even, mirrored, cam(pad(images, (pixels, 0))[..., :width]))


def collapse_on(
    classifier: Engine, loader: Loader, samples: NDArray[np.int64], batch_size: int, group: Group
) -> dict[str, float]:
    """The metrics of `collapse` on unaugmented samples. Collective."""
    module: Any = classifier.module
    with torch.no_grad(), frozen(classifier) as network:

        def work(batch: Batch) -> MovedMaps:
            return MovedMaps(*(maps.cpu() for maps in moved_maps(network, batch.images, batch.labels, module.places)))

        parts = over_batches(loader, samples, batch_size, group, work)
    moved = MovedMaps(*(torch.cat(maps) for maps in zip(*parts, strict=True)))
    return collapse(*moved, shift_of(moved.maps.shape[2]))
