"""Positions of a map's cells in the image, and resampling between cells and pixels.

A cell sits at the centre of its receptive field, which is off an even grid wherever a network pads and strides: by
3.5 of 48 px for resnet8, 15.5 of 224 for resnet50 (`networks/receptive_field.py`). Masks are averaged around these
centres, and maps are upsampled from these centres. The map itself is not shifted: interpolating between cells would
smooth all cells but those at an edge, which would then win the maxima.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Places(NamedTuple):
    """start: the pixel at the centre of the first cell's receptive field. stride: pixels between two cells."""

    start: float
    stride: float


def even_grid_places(pixels: int, cells: int) -> Places:
    """Places of `cells` cells that divide `pixels` pixels evenly."""
    return Places((pixels / cells - 1) / 2, pixels / cells)


def pool_to_cells(masks: Tensor, size: tuple[int, int], places: Places | None = None) -> Tensor:
    """Masks (B, H, W) averaged to the cells of a map, (B, *size): each cell is the mean of the pixels nearest to its
    place. places: None for cells that divide the image evenly.
    """
    down, across = (
        _cover(pixels, cells, places or even_grid_places(pixels, cells), masks)
        for pixels, cells in zip(masks.shape[-2:], size, strict=True)
    )
    return _both_ways(masks, down, across)


def upsample_to_image(maps: Tensor, size: tuple[int, int], places: Places | None = None) -> Tensor:
    """Maps (B, h, w) upsampled bilinearly to the pixels of an image, (B, *size), with border values beyond the
    outermost places. places: None for cells that divide the image evenly.
    """
    return _interpolated(maps, size, size, places)


def resample_to_even_grid(maps: Tensor, places: Places | None, image_size: tuple[int, int]) -> Tensor:
    """Maps (B, h, w) resampled bilinearly to cells that divide an image of (H, W) evenly, so that maps can be mirrored
    or compared with maps of other places.
    """
    return maps if places is None else _interpolated(maps, (maps.shape[-2], maps.shape[-1]), image_size, places)


def cells_transform(
    geometry: Tensor, size: tuple[int, int], image_size: tuple[int, int], places: Places | None
) -> Tensor:
    """The affine transform (B, 2, 3) between the maps of two images, from the transform between the images.

    size: (h, w) of the maps. Frames run from -1 to 1, as in torch.nn.functional.affine_grid without aligned corners.
    """
    if places is None:
        return geometry
    # x first, as in affine_grid. A point p of a map's frame is scale · p + offset in the image's frame.
    sides = [(cells, pixels) for cells, pixels in zip(reversed(size), reversed(image_size), strict=True)]
    scale, offset = torch.empty_like(geometry[0, :, 2]), torch.empty_like(geometry[0, :, 2])
    for axis, (cells, pixels) in enumerate(sides):
        scale[axis] = places.stride * cells / pixels
        offset[axis] = (2 * places.start + places.stride * (cells - 1) + 1) / pixels - 1
    linear, shift = geometry[:, :, :2], geometry[:, :, 2]
    translation = (linear @ offset + shift - offset) / scale
    return torch.cat([linear * scale / scale[:, None], translation[:, :, None]], dim=2)


def _interpolated(maps: Tensor, size: tuple[int, int], image_size: tuple[int, int], places: Places | None) -> Tensor:
    """Maps (B, h, w) interpolated at (B, *size) points that divide an image evenly."""
    down, across = (
        _bilinear(points, pixels, cells, places or even_grid_places(pixels, cells), maps)
        for points, pixels, cells in zip(size, image_size, maps.shape[-2:], strict=True)
    )
    return _both_ways(maps, down, across)


def _both_ways(values: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Weighted sums along both axes of values (B, H, W); down: (h, H), across: (w, W).

    Written as sums, because autocast would round matrix products to bfloat16.
    """
    rows = (down[:, :, None] * values[:, None]).sum(2)
    return (rows[:, :, None] * across).sum(3)


def _bilinear(points: int, pixels: int, cells: int, places: Places, like: Tensor) -> Tensor:
    """Weight of each cell at each point, (points, cells)."""
    centres = (_numbers(points, like) + 0.5) * (pixels / points) - 0.5
    positions = ((centres - places.start) / places.stride).clamp(0, cells - 1)
    return (1 - (positions[:, None] - _numbers(cells, like)).abs()).clamp_min(0)


def _cover(pixels: int, cells: int, places: Places, like: Tensor) -> Tensor:
    """Share of each pixel in each cell, (cells, pixels). The outermost cells reach to the border."""
    borders = places.start + (_numbers(cells + 1, like) - 0.5) * places.stride
    borders[0], borders[-1] = -0.5, pixels - 0.5
    centres = _numbers(pixels, like)
    low, high = (centres - 0.5).maximum(borders[:-1, None]), (centres + 0.5).minimum(borders[1:, None])
    inside = (high - low).clamp_min(0)
    return inside / inside.sum(1, keepdim=True).clamp_min(1e-6)


def _numbers(count: int, like: Tensor) -> Tensor:
    dtype = like.dtype if like.dtype.itemsize >= 4 else torch.float32
    return torch.arange(count, device=like.device, dtype=dtype)
