"""The geometry between two views of one picture (`draws.second_views`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from align_dist.data.augmentation import view_of
from align_dist.data.compiling import compiled_for
from align_dist.data.draws import Draws, sample_of

if TYPE_CHECKING:
    from align_dist.data.decoder import Augmentation

Boxes = NDArray[np.float64]
_FILL = "void(uint64, uint64[:], int64[:], int64[:], float64[::1], float64[:, ::1])"


@dataclass(frozen=True)
class Views:
    """Where each view lies in its picture. heights, widths: (N,) of all pictures by sample id, in pixels."""

    seed: int
    augmentation: Augmentation
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]

    def boxes(self, draws: Draws) -> Boxes:
        """Top, left, height and width as shares of the picture's, and 1 where mirrored, else 0. (B, 5)."""
        samples, boxes = sample_of(draws), np.empty((len(draws), 5))
        sides = self.heights[samples], self.widths[samples]
        compiled_for(_fill, _FILL)(np.uint64(self.seed), draws, *sides, self.augmentation.numbers, boxes)
        return boxes

    def between(self, first: Draws, second: Draws) -> NDArray[np.float32]:
        """Affine maps (B, 2, 3) from places of the second view to the same places of the first.

        Places are (x, y) in [-1, 1], as `torch.nn.functional.affine_grid` has them: `attribution.carried_over` takes a
        map of the first view into the frame of the second.
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
    draws: Draws,
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    augmentation: NDArray[np.float64],
    boxes: Boxes,
) -> None:
    for place in range(boxes.shape[0]):
        height, width = heights[place], widths[place]
        top, left, box_height, box_width, mirrored = view_of(height, width, augmentation, seed, draws[place])
        boxes[place, 0], boxes[place, 1] = top / height, left / width
        boxes[place, 2], boxes[place, 3] = box_height / height, box_width / width
        boxes[place, 4] = 1.0 if mirrored else 0.0
