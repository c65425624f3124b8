"""FFCV decoders that take draws instead of sample ids: decode, crop, resize, mirror, colours.

FFCV hands its `batch_indices` straight to a decoder, so a draw (see `draws`) travels through FFCV's
threads untouched and carries its own randomness. The decoder cuts the sample id out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from align_dist.data import augmentation, kernels
from align_dist.data.draws import PASS_SHIFT, SAMPLE_MASK
from align_dist.data.ffcv_compat import (
    IMAGE_MODES,
    AllocationQuery,
    Compiler,
    SimpleRGBImageDecoder,
    State,
    imdecode,
)


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training picture; the defaults are DomainBed's (paper.md section 5.3)."""

    crop_scale: tuple[float, float] = (0.7, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.3, 0.3, 0.3, 0.3)
    greyscale: float = 0.1


_imdecode = augmentation.compiled(imdecode)


@augmentation.compiled
def decode_jpeg(data: kernels.Pixels, height: int, width: int, part: int) -> tuple[bool, kernels.Pixels]:
    """Whether a JPEG (N,) of the given size is whole, and its pixels (H / part, W / part, 3), each side rounded up."""
    picture = np.empty((-(-height // part), -(-width // part), 3), np.uint8)
    h, w = np.uint32(height), np.uint32(width)
    return _imdecode(data, picture, h, w, h, w, 0, 0, 1, part, False, False) == 0, picture


@augmentation.compiled
def view_raw(data: kernels.Pixels, height: int, width: int, part: int) -> tuple[bool, kernels.Pixels]:
    """`decode_jpeg` for pixels that are stored as they are, with part 1."""
    return True, data.reshape(height, width, 3)


class DrawnImageDecoder(SimpleRGBImageDecoder):  # type: ignore[misc]
    """Draws → uint8 images (3, side, side). Pass 0 resizes the whole picture and does nothing else.

    mask: draws → masks (side, side), to which only the geometry happens: one draw moves a picture and its mask alike.
    augmented: False leaves zeros for draws of later passes, for masks that are needed in evaluation alone.
    """

    def __init__(
        self, side: int, augmentation: Augmentation, seed: int, *, mask: bool = False, augmented: bool = True
    ) -> None:
        super().__init__()
        self.shape = (side, side) if mask else (3, side, side)
        self.augmentation = augmentation
        self.seed = seed
        self.augmented = augmented

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        state = replace(previous_state, jit_mode=True, shape=self.shape, dtype=np.dtype("u1"))
        return state, AllocationQuery(self.shape, np.dtype("u1"))

    def generate_code(self) -> Callable[..., Any]:
        read, iterate = self.memory_read, Compiler.get_iterator()
        # Of a column all pictures are stored alike; the other way would be compiled for nothing.
        jpeg = bool((self.metadata["mode"] == IMAGE_MODES["jpg"]).any())
        render = _renderer(self.augmentation, self.seed, jpeg, colours=len(self.shape) == 3)
        mask, shift, augmented = np.uint64(SAMPLE_MASK), np.uint64(PASS_SHIFT), self.augmented

        def decode(draws: Any, images: Any, metadata: Any, storage: Any) -> Any:
            damaged = np.zeros(len(draws), np.bool_)
            for i in iterate(len(draws)):
                draw = np.uint64(draws[i])
                if augmented or draw >> shift == 0:
                    field = metadata[draw & mask]
                    data = read(field["data_ptr"], storage)
                    planes = images[i].reshape(-1, images.shape[-2], images.shape[-1])
                    height, width = np.int64(field["height"]), np.int64(field["width"])
                    damaged[i] = not render(data, height, width, draw, planes)
                else:
                    images[i] = 0
            if damaged.any():
                raise ValueError("a picture in it cannot be decoded")
            return images[: len(draws)]

        decode.is_parallel = True  # type: ignore[attr-defined]
        return decode


def _renderer(settings: Augmentation, seed_number: int, jpeg: bool, colours: bool) -> Callable[..., bool]:
    """The compiled way of one picture from its bytes to planes (C, side, side); False for a damaged JPEG."""
    decode, resize_box, colour = decode_jpeg if jpeg else view_raw, kernels.resize_box, kernels.colour
    crop_box, uniform, reduction = augmentation.crop_box, augmentation.uniform, kernels.reduction
    scale, ratio, strength = np.array(settings.crop_scale), np.array(settings.crop_ratio), np.array(settings.jitter)
    flip_share, flip_counter, grey_share = settings.flip, augmentation.FLIP, settings.greyscale
    seed, shift = np.uint64(seed_number), np.uint64(PASS_SHIFT)

    def render(data: Any, height: Any, width: Any, draw: Any, planes: Any) -> bool:
        top, left, box_height, box_width, mirrored = 0, 0, height, width, False
        if draw >> shift > 0:
            top, left, box_height, box_width = crop_box(height, width, scale, ratio, seed, draw)
            mirrored = uniform(seed, draw, flip_counter) < flip_share
        part = reduction(min(box_height, box_width), planes.shape[1]) if jpeg else 1
        whole, picture = decode(data, height, width, part)
        if not whole:
            return False
        resize_box(picture, top / part, left / part, box_height / part, box_width / part, mirrored, planes)
        if colours and draw >> shift > 0:
            colour(planes, strength, grey_share, seed, draw)
        return True

    return augmentation.compiled(render)
