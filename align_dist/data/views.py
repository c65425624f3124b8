"""The geometry between two views of one image (`sample_keys.second_view_keys`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from align_dist.data.augmentation import numbers_of, view_of
from align_dist.data.compiling import compiled_for
from align_dist.data.sample_keys import SampleKeys, sample_ids

if TYPE_CHECKING:
    from align_dist.config import AugmentationConfig

Boxes = NDArray[np.float64]
_FILL = "void(uint64, uint64[:], int64[:], int64[:], float64[::1], float64[:, ::1])"


@dataclass(frozen=True)
class ViewGeometry:
    """Positions of augmented views in their images. heights, widths: (N,), of all images by sample id, in pixels."""

    seed: int
    augmentation: AugmentationConfig
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]

    def boxes(self, sample_keys: SampleKeys) -> Boxes:
        """Top, left, height and width of each crop as shares of the image, and 1 where mirrored, else 0: (B, 5)."""
        samples, boxes = sample_ids(sample_keys), np.empty((len(sample_keys), 5))
        sides = self.heights[samples], self.widths[samples]
        settings = numbers_of(self.augmentation)
        compiled_for(_fill, _FILL)(np.uint64(self.seed), sample_keys, *sides, settings, boxes)
        return boxes

    def between(self, first: SampleKeys, second: SampleKeys) -> NDArray[np.float32]:
        """Affine transforms (B, 2, 3) from points of the second view to the same points of the first view.

        Points are (x, y) in [-1, 1], as in `torch.nn.functional.affine_grid`: `attribution.warp_maps` resamples a
        map of the first view in the frame of the second.
        """
        a, b = self.boxes(first), self.boxes(second)
        mirrored = (1 - 2 * a[:, 4]) * (1 - 2 * b[:, 4])
        maps = np.zeros((len(first), 2, 3), np.float32)
        maps[:, 0, 0] = mirrored * b[:, 3] / a[:, 3]
        maps[:, 0, 2] = (1 - 2 * a[:, 4]) * ((2 * (b[:, 1] - a[:, 1]) + b[:, 3]) / a[:, 3] - 1)
        maps[:, 1, 1] = b[:, 2] / a[:, 2]
        maps[:, 1, 2] = (2 * (b[:, 0] - a[:, 0]) + b[:, 2]) / a[:, 2] - 1
        return maps


def _fill(
    seed: np.uint64,
    sample_keys: SampleKeys,
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    augmentation: NDArray[np.float64],
    boxes: Boxes,
) -> None:
    for index in range(boxes.shape[0]):
        height, width = heights[index], widths[index]
        top, left, box_height, box_width, mirrored = view_of(height, width, augmentation, seed, sample_keys[index])
        boxes[index, 0], boxes[index, 1] = top / height, left / width
        boxes[index, 2], boxes[index, 3] = box_height / height, box_width / width
        boxes[index, 4] = 1.0 if mirrored else 0.0
