"""FFCV decoders for sample keys instead of sample ids: decode, crop, resize, mirror, jitter colours.

FFCV passes its `batch_indices` unchanged to a decoder, so a sample key (see `sample_keys`) carries its own randomness
through FFCV's threads. The decoder extracts the sample id.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from align_dist.config import AugmentationConfig
from align_dist.data.augmentation import numbers_of
from align_dist.data.compiling import compiled_for
from align_dist.data.ffcv_compat import IMAGE_MODES, AllocationQuery, SimpleRGBImageDecoder, State
from align_dist.data.rendering import RENDER, render
from align_dist.data.sample_keys import SampleKeys, sample_ids

# Parts of a batch per thread. Several small parts even out the load, because a batch waits for the last part.
PARTS = 4


class DrawnImageDecoder(SimpleRGBImageDecoder):  # type: ignore[misc]
    """Decode sample keys to uint8 images (3, side, side). Pass 0 only resizes the whole image.

    mask: decode masks (side, side) instead, with the geometry of the image's crop and flip and without colours.
    augmented: False leaves zeros for passes after 0, for masks that only evaluation needs. threads, workers: the
    thread pool, and how many of its threads decode at once.
    """

    def __init__(
        self,
        side: int,
        augmentation: AugmentationConfig,
        seed: int,
        threads: Executor,
        workers: int,
        *,
        mask: bool = False,
        augmented: bool = True,
    ) -> None:
        super().__init__()
        self.shape = (side, side) if mask else (3, side, side)
        self.numbers = numbers_of(augmentation)
        self.seed = np.uint64(seed)
        self.threads, self.workers = threads, workers
        self.augmented = augmented
        self.render = compiled_for(render, RENDER)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        state = replace(previous_state, jit_mode=True, shape=self.shape, dtype=np.dtype("u1"))
        return state, AllocationQuery(self.shape, np.dtype("u1"))

    def generate_code(self) -> Callable[..., Any]:
        # All images of a column have the same storage.
        jpeg = bool((self.metadata["mode"] == IMAGE_MODES["jpg"]).any())
        starts, heights, widths = (
            np.ascontiguousarray(self.metadata[name]).astype(kind)
            for name, kind in (("data_ptr", np.uint64), ("height", np.int64), ("width", np.int64))
        )

        def decode(
            sample_keys: SampleKeys, images: NDArray[np.uint8], _metadata: Any, storage: Any
        ) -> NDArray[np.uint8]:
            samples = sample_ids(sample_keys)
            columns = sample_keys, starts[samples], heights[samples], widths[samples]
            settings = self.numbers, self.seed, jpeg, self.augmented
            planes = images.reshape(len(sample_keys), -1, *images.shape[-2:])
            intact = np.zeros(len(sample_keys), np.bool_)

            def render_part(rows: slice) -> None:
                self.render(*(column[rows] for column in columns), *storage, *settings, planes[rows], intact[rows])

            size = max(1, math.ceil(len(sample_keys) / (PARTS * self.workers)))
            parts = [slice(start, start + size) for start in range(0, len(sample_keys), size)]
            # A single thread is the calling thread.
            list((self.threads.map if self.workers > 1 else map)(render_part, parts))
            if not intact.all():
                raise ValueError("an image cannot be decoded")
            return images

        return decode
