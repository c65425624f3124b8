"""Have maps collapsed, that is, do they mark one place whatever the picture shows? Pure functions of maps (N, H, W).

A map's agreement with another is Pearson's correlation over their cells, in [-1, 1], which no scaling or shifting of
values changes. A constant map agrees with none (0); two of them say nothing and are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NAN = float("nan")
# Below this distance from 1, chance agreement leaves nothing by which a map could show that it follows.
SMALLEST_ROOM = 1e-6


class Agreement(NamedTuple):
    """Means over pairs. own: of maps of one picture. chance: of maps of two different pictures."""

    own: float
    chance: float

    @property
    def above_chance(self) -> float:
        """1 for full agreement, 0 for what different pictures have as well: (own - chance) / (1 - chance).

        Source: the correction of Cohen 1960, https://doi.org/10.1177/001316446002000104. 0 where chance is 1.
        """
        room = 1 - self.chance
        return 0.0 if room < SMALLEST_ROOM else (self.own - self.chance) / room


def commonest_cell(maps: Tensor) -> float:
    """Share of maps, in [0, 1], whose maximum lies in the cell where most have it; by chance about 1 / (H W).

    Of equal maxima the first counts. Constant maps have none and are left out; NaN where no map is left.
    """
    flat = maps.flatten(1)
    cells = flat.argmax(1)[flat.amax(1) > flat.amin(1)]
    return int(cells.bincount().max()) / len(cells) if len(cells) else NAN


def agreement(first: Tensor, second: Tensor) -> Agreement:
    """Agreement of the maps (N, H, W) of N pictures with others of the same pictures. NaN for fewer than two."""
    a, b = _standardised(first), _standardised(second)
    told = (a.abs().sum(1) + b.abs().sum(1)) > 0
    a, b, count = a[told], b[told], int(told.sum())
    if count < 2:
        return Agreement(NAN, NAN)
    own = float((a * b).sum())
    # Of all pairs at once: the product of the sums, less that of each with its own.
    others = float(a.sum(0) @ b.sum(0)) - own
    return Agreement(own / count, others / (count * (count - 1)))


def collapse(maps: Tensor, even: Tensor, mirrored: Tensor, shifted: Tensor, cells: int) -> dict[str, float]:
    """All measures of collapse.

    maps: (N, H, W). even: the same at cells that divide the pictures evenly (`places.evenly_placed`), and so mirrored,
    of the pictures mirrored left to right. shifted: of the pictures shifted to the right by
    `cells` columns of the map, compared where both show the same of the picture.

    Gives commonest_cell; map_cells, H W; map_likeness, the agreement of different pictures' maps; follows_mirror and
    follows_shift, the agreement with the picture's own map moved alike, stays_mirror and stays_shift, with that map
    not moved; map_following, what follows above chance, mean of the two ways of moving, 1 for all of it.
    """
    kept = maps.shape[2] - cells
    by_mirror = agreement(even.flip(2), mirrored)
    by_shift = agreement(maps[:, :, :kept], shifted[:, :, cells:])
    found = [way.above_chance for way in (by_mirror, by_shift) if way.own == way.own]
    return {
        "commonest_cell": commonest_cell(maps),
        "map_cells": float(maps.shape[1] * maps.shape[2]),
        "map_likeness": agreement(maps, maps).chance,
        "map_following": sum(found) / len(found) if found else NAN,
        "follows_mirror": by_mirror.own,
        "stays_mirror": agreement(even, mirrored).own,
        "follows_shift": by_shift.own,
        "stays_shift": agreement(maps[:, :, cells:], shifted[:, :, cells:]).own,
    }


def _standardised(maps: Tensor) -> Tensor:
    """(N, H W) of mean 0 and length 1; zeros for a constant map."""
    flat = maps.double().flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    constant = flat.amax(1, keepdim=True) == flat.amin(1, keepdim=True)
    length = torch.where(constant, 1.0, centred.norm(dim=1, keepdim=True))
    return torch.where(constant, 0.0, centred / length)
