"""Collapse of attribution maps to one place, whatever the image shows. Pure functions of maps (N, H, W).

The agreement of two maps is Pearson's correlation over cells, in [-1, 1], invariant to scale and offset. The agreement
with a constant map is 0; a pair of constant maps is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NAN = float("nan")
# If chance agreement is closer to 1, nothing can lie above chance.
SMALLEST_ROOM = 1e-6


class Agreement(NamedTuple):
    """Mean agreement over pairs of maps. own: of the same image. chance: of two different images."""

    own: float
    chance: float

    @property
    def above_chance(self) -> float:
        """1 for full agreement, 0 for the agreement of different images: (own - chance) / (1 - chance).

        Source: the correction of Cohen 1960, https://doi.org/10.1177/001316446002000104. 0 where chance is 1.
        """
        room = 1 - self.chance
        return 0.0 if room < SMALLEST_ROOM else (self.own - self.chance) / room


def commonest_cell(maps: Tensor) -> float:
    """Share of maps, in [0, 1], with their maximum in the most common cell; by chance about 1 / (H W).

    Among equal maxima the first counts. Constant maps are left out; NaN where no map is left.
    """
    flat = maps.flatten(1)
    cells = flat.argmax(1)[flat.amax(1) > flat.amin(1)]
    return int(cells.bincount().max()) / len(cells) if len(cells) else NAN


def agreement(first: Tensor, second: Tensor) -> Agreement:
    """Agreement of two sets of maps (N, H, W) of the same N images. NaN for fewer than two images."""
    a, b = _standardised(first), _standardised(second)
    is_varied = (a.abs().sum(1) + b.abs().sum(1)) > 0
    a, b, count = a[is_varied], b[is_varied], int(is_varied.sum())
    if count < 2:
        return Agreement(NAN, NAN)
    own = float((a * b).sum())
    # All pairs at once: the product of the sums, minus the pairs of the same image.
    others = float(a.sum(0) @ b.sum(0)) - own
    return Agreement(own / count, others / (count * (count - 1)))


def collapse(maps: Tensor, even: Tensor, mirrored: Tensor, shifted: Tensor, cells: int) -> dict[str, float]:
    """All metrics of collapse.

    maps: (N, H, W). even: the same maps at cells that divide the images evenly (`places.resample_to_even_grid`).
    mirrored: maps of the images mirrored left to right, at the same cells. shifted: maps of the images shifted right by
    `cells` columns of the map, compared where both show the same content.

    Returns commonest_cell; map_cells, H W; map_likeness, the agreement of different images' maps; follows_mirror and
    follows_shift, the agreement with the image's map moved in the same way; stays_mirror and stays_shift, with the map
    not moved; map_following, the mean agreement above chance over both moves, 1 for maps that follow fully.
    """
    columns = maps.shape[2] - cells
    by_mirror = agreement(even.flip(2), mirrored)
    by_shift = agreement(maps[:, :, :columns], shifted[:, :, cells:])
    agreements = [way.above_chance for way in (by_mirror, by_shift) if way.own == way.own]
    return {
        "commonest_cell": commonest_cell(maps),
        "map_cells": float(maps.shape[1] * maps.shape[2]),
        "map_likeness": agreement(maps, maps).chance,
        "map_following": sum(agreements) / len(agreements) if agreements else NAN,
        "follows_mirror": by_mirror.own,
        "stays_mirror": agreement(even, mirrored).own,
        "follows_shift": by_shift.own,
        "stays_shift": agreement(maps[:, :, cells:], shifted[:, :, cells:]).own,
    }


def _standardised(maps: Tensor) -> Tensor:
    """Flattened maps (N, H W) with mean 0 and norm 1; zeros for a constant map."""
    flat = maps.double().flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    constant = flat.amax(1, keepdim=True) == flat.amin(1, keepdim=True)
    length = torch.where(constant, 1.0, centred.norm(dim=1, keepdim=True))
    return torch.where(constant, 0.0, centred / length)
