"""Maps of moved images."""

from __future__ import annotations

import torch
from known_maps import Seen
from torch import Tensor, nn

from align_dist.evaluation.moving import moved_maps, shift_of
from align_dist.networks.receptive_field import places_of


class Strided(nn.Module):
    """A map of one convolution, whose stride need not divide the image."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 1, 3, stride=16, padding=1)
        self.pooling = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor, explain: Tensor | None = None) -> Seen:
        maps = self.features(images)
        return Seen(self.pooling(maps).flatten(1), maps[:, 0])


def test_an_image_is_shifted_by_whole_cells_of_the_map_whatever_its_side() -> None:
    network, images = Strided(), torch.randn(4, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    moved = moved_maps(network, images, torch.zeros(4, dtype=torch.int64), places_of(network))
    cells = shift_of(moved.maps.shape[2])
    assert moved.maps.shape == (4, 3, 3) and cells == 1
    torch.testing.assert_close(moved.shifted[:, :, cells:], moved.maps[:, :, :-cells])
