from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align_dist.attribution import warp_maps
from align_dist.evaluation.collapse import commonest_cell
from align_dist.networks.classifier import Classifier
from align_dist.networks.receptive_field import places_of
from align_dist.places import (
    Places,
    cells_transform,
    even_grid_places,
    pool_to_cells,
    resample_to_even_grid,
    upsample_to_image,
)

torch.set_num_threads(1)
OFF, SIZE = Places(0, 8), (32, 48)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def ramp(height: int, width: int, start: float = 0.0, stride: float = 1.0) -> Tensor:
    """Values equal to the pixels at which they stand: down, and a hundred times across."""
    down, across = (start + stride * torch.arange(count) for count in (height, width))
    return (down[:, None] + 100 * across).expand(2, height, width)


@pytest.mark.parametrize("cells", [(4, 6), (8, 12), (32, 48)])
@pytest.mark.parametrize("places", [None, "even"])
def test_even_cells_are_torchs_pooling_and_resizing(cells: tuple[int, int], places: str | None) -> None:
    cell_places = None if places is None else even_grid_places(48, cells[1])
    masks, maps = noise(2, *SIZE), noise(2, *cells)
    pooled = F.adaptive_avg_pool2d(masks[:, None], cells)[:, 0]
    enlarged = F.interpolate(maps[:, None], SIZE, mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(pool_to_cells(masks, cells, cell_places), pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(upsample_to_image(maps, SIZE, cell_places), enlarged, rtol=0, atol=1e-5)
    assert torch.equal(resample_to_even_grid(maps, None, SIZE), maps)


def test_a_cells_mask_is_the_mean_around_its_place() -> None:
    """Of cells at pixels 0, 8, ... the inner ones have a mean of their own pixel; the first has half of such a window,
    the last one and a half, for every pixel belongs to the cell whose place is nearest.
    """
    means = pool_to_cells(ramp(*SIZE), (4, 6), OFF)
    torch.testing.assert_close(means[0, 1:-1, 1:-1], ramp(4, 6, stride=8)[0, 1:-1, 1:-1])
    # Pixels 0 to 4 and 20 to 31; pixels 4 and 20 by half.
    assert float(means[0, 0, 1]) == pytest.approx((0 + 1 + 2 + 3 + 4 / 2) / 4.5 + 800)
    assert float(means[0, 3, 1]) == pytest.approx((20 / 2 + sum(range(21, 32))) / 11.5 + 800)


def test_no_pixel_of_a_mask_is_lost() -> None:
    cover = pool_to_cells(torch.eye(32 * 48).view(32 * 48, 32, 48), (4, 6), OFF)
    assert (cover.flatten(1).sum(1) > 0).all()


def test_an_enlarged_map_has_each_cells_value_at_its_place() -> None:
    maps = noise(2, 4, 6)
    torch.testing.assert_close(upsample_to_image(maps, SIZE, OFF)[:, ::8, ::8], maps)
    down, across = (torch.arange(pixels).clamp(max=last) for pixels, last in ((32, 24), (48, 40)))
    torch.testing.assert_close(upsample_to_image(ramp(4, 6, stride=8), SIZE, OFF)[0], down[:, None] + 100.0 * across)


def test_no_cell_is_favoured_by_where_cells_lie() -> None:
    """An enlarged map of noise has its maximum in each cell about as often as in any other."""
    enlarged = upsample_to_image(noise(4000, 6, 6), (48, 48), OFF)
    assert commonest_cell(pool_to_cells(enlarged, (6, 6), OFF)) < 3 / 36
    assert torch.equal(enlarged[:, ::8, ::8].flatten(1).argmax(1), noise(4000, 6, 6).flatten(1).argmax(1))


def test_a_placed_map_turns_with_its_picture() -> None:
    """Property: the network is made symmetric, so that all that breaks the symmetry is where cells lie."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    network = nn.Sequential(*layers)
    with torch.no_grad():
        layers[0].weight.copy_((layers[0].weight + layers[0].weight.flip(3)) / 2)
    line, labels = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32), torch.tensor([1])
    classifier = Classifier(network).eval()
    maps, mirrored = (classifier(images, explain=labels).cam.detach() for images in (line, line.flip(3)))
    errors = []
    for places in (places_of(network), None):
        even, turned = (resample_to_even_grid(some, places, (32, 32))[..., 2:-2, 2:-2] for some in (maps, mirrored))
        errors.append(float((even.flip(2) - turned).abs().max() / maps.std()))
    assert errors[0] < errors[1] / 5


@pytest.mark.parametrize("places", [OFF, Places(-0.5, 8), Places(2.0, 6.0), None])
def test_maps_are_carried_over_as_their_images_are(places: Places | None) -> None:
    """Reference: the two images' own geometry, at the pixels where the cells lie."""
    angle = torch.tensor(0.3)
    geometry = torch.tensor([[0.8 * angle.cos(), -angle.sin(), 0.1], [angle.sin(), 0.7 * angle.cos(), -0.2]])[None]
    shown = places or even_grid_places(48, 6)
    points = (2 * (shown.start + shown.stride * torch.arange(6)) + 1) / 48 - 1
    other = torch.stack([points.expand(6, 6), points[:, None].expand(6, 6), torch.ones(6, 6)], dim=-1)
    first = other @ geometry[0].T
    # A map that is linear in the image's frame, so that interpolating it is exact where the first view reaches.
    maps = (3 * points[None, :] - 2 * points[:, None])[None]
    moved = warp_maps(maps, cells_transform(geometry, (6, 6), (48, 48), places))[0]
    inside = (first > points[0]).all(-1) & (first < points[-1]).all(-1)
    assert inside.sum() > 8
    torch.testing.assert_close(moved[inside], (3 * first[..., 0] - 2 * first[..., 1])[inside], rtol=0, atol=1e-5)
