"""Where in an image the cells of a map lie, and the two ways between them.

A cell looks at the centre of its receptive field, which is off an even grid wherever a network pads and halves: 3.5 of
48 px for resnet8, 15.5 of 224 for resnet50 (`networks/receptive_field.py`). Masks are averaged around these centres,
maps are enlarged from them. A map itself is not moved: interpolating between cells smooths all but those at an edge,
which then win the maxima.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Places(NamedTuple):
    """The pixel at which the first cell's receptive field has its centre, and how many pixels lie between two cells."""

    start: float
    stride: float


def even_places(pixels: int, cells: int) -> Places:
    """The places of so many cells that divide so many pixels evenly."""
    return Places((pixels / cells - 1) / 2, pixels / cells)


def in_cells(masks: Tensor, size: tuple[int, int], places: Places | None = None) -> Tensor:
    """Masks (B, H, W) at the cells of a map, (B, *size): the mean of the pixels that lie nearer to a cell's place than
    to the next one's. places: None for cells that divide the image evenly.
    """
    down, across = (
        _cover(pixels, cells, places or even_places(pixels, cells), masks)
        for pixels, cells in zip(masks.shape[-2:], size, strict=True)
    )
    return _both_ways(masks, down, across)


def in_image(maps: Tensor, size: tuple[int, int], places: Places | None = None) -> Tensor:
    """Maps (B, h, w) at the pixels of an image, (B, *size), bilinear; beyond the outermost places their values go on.
    places: None for cells that divide the image evenly.
    """
    return _interpolated(maps, size, size, places)


def evenly_placed(maps: Tensor, places: Places | None, image_size: tuple[int, int]) -> Tensor:
    """Maps (B, h, w) at cells that divide an image of (H, W) evenly, bilinear: to be mirrored, or compared with maps of
    other places.
    """
    return maps if places is None else _interpolated(maps, (maps.shape[-2], maps.shape[-1]), image_size, places)


def between_cells(
    geometry: Tensor, size: tuple[int, int], image_size: tuple[int, int], places: Places | None
) -> Tensor:
    """The affine map between the frames of two images' maps of this size, from that between the images', (B, 2, 3).

    Frames run from -1 to 1, as torch.nn.functional.affine_grid has them without aligned corners.
    """
    if places is None:
        return geometry
    # Across first, as affine maps have it. A place p of a map's frame is scale · p + offset in the image's.
    sides = [(cells, pixels) for cells, pixels in zip(reversed(size), reversed(image_size), strict=True)]
    scale, offset = torch.empty_like(geometry[0, :, 2]), torch.empty_like(geometry[0, :, 2])
    for axis, (cells, pixels) in enumerate(sides):
        scale[axis] = places.stride * cells / pixels
        offset[axis] = (2 * places.start + places.stride * (cells - 1) + 1) / pixels - 1
    linear, shift = geometry[:, :, :2], geometry[:, :, 2]
    moved = (linear @ offset + shift - offset) / scale
    return torch.cat([linear * scale / scale[:, None], moved[:, :, None]], dim=2)


def _interpolated(maps: Tensor, size: tuple[int, int], image_size: tuple[int, int], places: Places | None) -> Tensor:
    """Maps (B, h, w) at the centres of (B, *size) points that divide an image evenly."""
    down, across = (
        _bilinear(points, pixels, cells, places or even_places(pixels, cells), maps)
        for points, pixels, cells in zip(size, image_size, maps.shape[-2:], strict=True)
    )
    return _both_ways(maps, down, across)


def _both_ways(values: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Weighted sums along both axes of values (B, H, W); down: (h, H), across: (w, W).

    Sums, not matrix products, which autocast would round to bfloat16.
    """
    rows = (down[:, :, None] * values[:, None]).sum(2)
    return (rows[:, :, None] * across).sum(3)


def _bilinear(points: int, pixels: int, cells: int, places: Places, like: Tensor) -> Tensor:
    """(points, cells): each cell's weight at each point."""
    centres = (_numbers(points, like) + 0.5) * (pixels / points) - 0.5
    positions = ((centres - places.start) / places.stride).clamp(0, cells - 1)
    return (1 - (positions[:, None] - _numbers(cells, like)).abs()).clamp_min(0)


def _cover(pixels: int, cells: int, places: Places, like: Tensor) -> Tensor:
    """(cells, pixels): each pixel's share of each cell."""
    centres = (places.start + _numbers(cells, like) * places.stride)[:, None]
    edges, half = _numbers(pixels, like), places.stride / 2
    low, high = (edges - 0.5).maximum(centres - half), (edges + 0.5).minimum(centres + half)
    inside = (high - low).clamp_min(0)
    return inside / inside.sum(1, keepdim=True).clamp_min(1e-6)


def _numbers(count: int, like: Tensor) -> Tensor:
    dtype = like.dtype if like.dtype.itemsize >= 4 else torch.float32
    return torch.arange(count, device=like.device, dtype=dtype)
