"""Networks whose maps are known, and pictures for them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from align_dist.evaluation.collapse import collapse
from align_dist.evaluation.moving import moved_maps, shift_of

CELLS, SIDE = 6, 48


def dots(places: list[tuple[int, int]], size: int = CELLS) -> Tensor:
    """A map with a 1 in one cell, for each place."""
    maps = torch.zeros(len(places), size, size)
    for index, (row, column) in enumerate(places):
        maps[index, row, column] = 1
    return maps


class Seen(NamedTuple):
    logits: Tensor
    cam: Tensor


class BrightSpot(nn.Module):
    """A map of where the picture is bright."""

    def forward(self, images: Tensor, explain: Tensor) -> Seen:
        cam = nn.functional.max_pool2d(images.mean(1, keepdim=True), SIDE // CELLS)[:, 0]
        return Seen(torch.zeros(len(images), 2), cam)


class FixedDot(nn.Module):
    """One map whatever the picture shows."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.map = dots([(row, column)])

    def forward(self, images: Tensor, explain: Tensor) -> Seen:
        return Seen(torch.zeros(len(images), 2), self.map.expand(len(images), -1, -1) * images.mean().exp())


def pictures_of(places: list[tuple[int, int]]) -> Tensor:
    """A bright pixel somewhere in a cell, for each place."""
    images = torch.zeros(len(places), 3, SIDE, SIDE)
    for index, (row, column) in enumerate(places):
        images[index, :, row * 8 + 3, column * 8 + 5] = 1
    return images


def measured(network: nn.Module, images: Tensor) -> dict[str, float]:
    maps = moved_maps(network, images, torch.zeros(len(images), dtype=torch.int64), None)
    return collapse(*maps, shift_of(CELLS))
