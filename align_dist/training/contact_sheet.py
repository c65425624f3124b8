"""Contact sheets: for each image a row of tiles, what the model saw and what it looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from align_dist.visual import OVERLAY, color_table

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

TILE, GAP, TITLE_HEIGHT, CAPTION_WIDTH, FONT_SIZE = 112, 6, 24, 132, 12
INK, PAPER = (34, 34, 34), (255, 255, 255)

Pixels = NDArray[np.uint8]


def colored(maps: Tensor) -> Tensor:
    """Maps (B, H, W) in [0, 1] as colours (B, 3, H, W) in [0, 1], black to yellow; values are clipped."""
    import torch

    table = torch.from_numpy(color_table().astype(np.float32) / 255).to(maps.device)
    index = (maps.detach().float().nan_to_num(0.0).clamp(0, 1) * 255).round().long()
    return table[index].movedim(-1, 1)


def overlay(images: Tensor, maps: Tensor, opacity: float = OVERLAY) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] under their maps (B, h, w) in [0, 1], coloured: (B, 3, H, W) in [0, 1].

    Maps of another size are resized bilinearly.
    """
    from align_dist.attribution import resize_map, size_of

    colors = colored(resize_map(maps.float(), size_of(images)))
    return (1 - opacity) * images.clamp(0, 1) + opacity * colors


def contact_sheet(columns: Mapping[str, Tensor], captions: Sequence[str]) -> Image:
    """One row an image: its caption, then a tile of every column under the column's title.

    A column is images (B, 3, H, W) or maps (B, H, W), both in [0, 1]; maps are coloured, with a scale at the
    bottom. Tiles are about 112 px high: small images are enlarged by a whole factor without smoothing, large
    ones are reduced; maps are scaled smoothly. Raises ValueError when counts do not match.
    """
    from PIL import Image
    from PIL.ImageDraw import Draw

    counts = {name: len(column) for name, column in columns.items()}
    if not counts or set(counts.values()) != {len(captions)}:
        raise ValueError(f"expected columns of {len(captions)} items, one a caption, got {counts}")
    width, height = tile_size(next(iter(columns.values())))
    left = CAPTION_WIDTH
    bottom = TITLE_HEIGHT + len(captions) * (height + GAP)
    size = (left + len(columns) * (width + GAP), bottom + TITLE_HEIGHT)
    sheet = Image.new("RGB", size, PAPER)
    pen = Draw(sheet)
    for row, caption in enumerate(captions):
        top = TITLE_HEIGHT + row * (height + GAP)
        _write(pen, (GAP, top), caption, CAPTION_WIDTH - 2 * GAP, height)
    for index, (name, column) in enumerate(columns.items()):
        x = left + index * (width + GAP)
        _write(pen, (x, 4), name, width + GAP, TITLE_HEIGHT)
        for row, tile in enumerate(_tiles(column, width, height)):
            sheet.paste(tile, (x, TITLE_HEIGHT + row * (height + GAP)))
    if any(column.ndim == 3 for column in columns.values()):
        _scale(sheet, left, bottom)
    return sheet


def tile_size(column: Tensor) -> tuple[int, int]:
    """Width and height of a tile: the whole multiple of a small image nearest to 112 px, or 112 px high."""
    height, width = column.shape[-2:]
    factor = max(1, round(TILE / height)) if height <= TILE else TILE / height
    return max(1, round(width * factor)), max(1, round(height * factor))


def _tiles(column: Tensor, width: int, height: int) -> list[Image]:
    from PIL import Image

    is_map = column.ndim == 3
    colors = colored(column) if is_map else column.detach().float().clamp(0, 1)
    pixels: Pixels = (colors * 255).round().byte().movedim(1, -1).cpu().numpy()
    smaller = pixels.shape[1] > height
    how = Image.Resampling.NEAREST
    if is_map or smaller:
        how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    return [Image.fromarray(one).resize((width, height), how) for one in pixels]


def _scale(sheet: Image, x: int, y: int) -> None:
    """The scale of the maps: 0, the colours, 1."""
    from PIL import Image
    from PIL.ImageDraw import Draw

    ramp: Pixels = np.broadcast_to(color_table(), (10, 256, 3)).copy()
    pen, font, length = Draw(sheet), _font(), TILE
    pen.text((x, y + 3), "0", INK, font)
    sheet.paste(Image.fromarray(ramp).resize((length, 10)), (x + 12, y + 6))
    pen.text((x + length + 16, y + 3), "1", INK, font)


def _write(pen: ImageDraw, at: tuple[int, int], text: str, width: int, height: int) -> None:
    """Text wrapped at spaces to fit the width, cut off below the height and, for long words, at the side."""
    font, lines = _font(), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    lines = [line for line in lines if line][: max(1, height // (FONT_SIZE + 3))]
    for number, line in enumerate(lines):
        pen.text((at[0], at[1] + number * (FONT_SIZE + 3)), _fitted(line, width), INK, font)


def _fitted(line: str, width: int) -> str:
    """The line, shortened with an ellipsis until it fits."""
    font, short = _font(), line
    while len(short) > 1 and font.getlength(short) > width:
        short = short.removesuffix("\N{HORIZONTAL ELLIPSIS}")[:-1] + "\N{HORIZONTAL ELLIPSIS}"
    return short


@cache
def _font() -> FreeTypeFont:
    """The font that comes with matplotlib: the same on every machine, and with arrows."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", FONT_SIZE)
