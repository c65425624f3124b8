"""FFCV decoders that take draws instead of sample ids: decode, crop, resize, flip, colours, one pass.

FFCV hands its `batch_indices` straight to a decoder, so a draw (see `draws`) travels through FFCV's
threads untouched and carries its own randomness. The decoder cuts the sample id out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from align_dist.data import augmentation
from align_dist.data.draws import PASS_SHIFT, SAMPLE_MASK
from align_dist.data.ffcv_compat import (
    IMAGE_MODES,
    AllocationQuery,
    Compiler,
    SimpleRGBImageDecoder,
    State,
    imdecode,
    resize_crop,
)


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training picture; the defaults are DomainBed's (paper.md section 5.3)."""

    crop_scale: tuple[float, float] = (0.7, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.3, 0.3, 0.3, 0.3)
    greyscale: float = 0.1


class DrawnImageDecoder(SimpleRGBImageDecoder):  # type: ignore[misc]
    """Draws → uint8 images (side, side, 3). Pass 0 resizes the whole picture and does nothing else.

    With `colours` off only the geometry acts: the same draw moves a picture and its mask alike.
    """

    def __init__(self, side: int, augmentation: Augmentation, seed: int, colours: bool = True) -> None:
        super().__init__()
        self.side = side
        self.augmentation = augmentation
        self.seed = seed
        self.colours = colours

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, tuple[AllocationQuery, ...]]:
        largest = int(self.metadata["width"].max()) * int(self.metadata["height"].max()) * 3
        shape = (self.side, self.side, 3)
        state = replace(previous_state, jit_mode=True, shape=shape, dtype=np.dtype("u1"))
        return state, (AllocationQuery(shape, np.dtype("u1")), AllocationQuery((largest,), np.dtype("u1")))

    def generate_code(self) -> Callable[..., Any]:
        read, iterate = self.memory_read, Compiler.get_iterator()
        decode_jpeg, resize = Compiler.compile(imdecode), Compiler.compile(resize_crop)
        transform = _colour_transform(self.augmentation, self.colours)
        crop_box, uniform, flip = augmentation.crop_box, augmentation.uniform, augmentation.flip
        jpeg = IMAGE_MODES["jpg"]
        scale, ratio = np.array(self.augmentation.crop_scale), np.array(self.augmentation.crop_ratio)
        flip_share, flip_counter = self.augmentation.flip, augmentation.FLIP
        seed, mask, shift = np.uint64(self.seed), np.uint64(SAMPLE_MASK), np.uint64(PASS_SHIFT)

        def decode(draws: Any, memory: Any, metadata: Any, storage: Any) -> Any:
            images, scratch = memory
            for i in iterate(len(draws)):
                draw = np.uint64(draws[i])
                field = metadata[draw & mask]
                data = read(field["data_ptr"], storage)
                height, width = np.uint32(field["height"]), np.uint32(field["width"])
                if field["mode"] == jpeg:
                    picture = scratch[i][: 3 * height * width]
                    decode_jpeg(data, picture, height, width, height, width, 0, 0, 1, 1, False, False)
                    picture = picture.reshape(height, width, 3)
                else:
                    picture = data.reshape(height, width, 3)
                if draw >> shift == 0:
                    resize(picture, 0, height, 0, width, images[i])
                else:
                    top, left, box_height, box_width = crop_box(height, width, scale, ratio, seed, draw)
                    resize(picture, top, top + box_height, left, left + box_width, images[i])
                    if uniform(seed, draw, flip_counter) < flip_share:
                        flip(images[i])
                    transform(images[i], seed, draw)
            return images[: len(draws)]

        decode.is_parallel = True  # type: ignore[attr-defined]
        return decode


def _colour_transform(settings: Augmentation, colours: bool) -> Callable[..., None]:
    """The compiled colour part: jitter, then sometimes greyscale; nothing for masks."""
    jitter, blend, uniform = augmentation.jitter, augmentation.blend, augmentation.uniform
    strength, grey_share = np.array(settings.jitter), settings.greyscale
    grey_counter = augmentation.GREYSCALE

    if not colours:
        return augmentation.compiled(lambda image, seed, draw: None)

    def transform(image: Any, seed: Any, draw: Any) -> None:
        jitter(image, strength, seed, draw)
        if uniform(seed, draw, grey_counter) < grey_share:
            blend(image, 2, 0.0)

    return augmentation.compiled(transform)
