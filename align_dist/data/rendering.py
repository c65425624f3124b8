"""Compiled rendering of stored images to planes of pixels: decode, crop, resize and augment part of a batch."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba.core import typing
from numpy.typing import NDArray

from align_dist.data import kernels
from align_dist.data.augmentation import view_of
from align_dist.data.compiling import compiled
from align_dist.data.ffcv_compat import IMDECODE_ADDRESS
from align_dist.data.kernels import Pixels
from align_dist.data.sample_keys import PASS_SHIFT, SampleKeys

Numbers = NDArray[np.int64]

# Registered under a name, because an address in cached machine code is valid in one process only.
llvmlite.binding.add_symbol("align_dist_imdecode", IMDECODE_ADDRESS)
_SOURCE = (numba.uint64, numba.uint64, numba.uint32, numba.uint32)
_CROP = (numba.uint64, *[numba.uint32] * 6, *[numba.uint8] * 2)
_imdecode: Any = numba.types.ExternalFunction(
    "align_dist_imdecode",
    typing.signature(numba.int32, *_SOURCE, *_CROP),  # type: ignore[attr-defined, no-untyped-call]
)
_FILE = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_PLACES, _LENGTHS = numba.uint64[::1], numba.int64[::1]
RENDER = numba.void(
    *(_PLACES, _PLACES, _LENGTHS, _LENGTHS, _FILE, _PLACES, _PLACES, numba.float64[::1], numba.uint64),
    *(numba.boolean, numba.boolean, numba.uint8[:, :, :, ::1], numba.boolean[::1]),
)


@compiled
def decode_jpeg(data: Pixels, height: int, width: int, part: int) -> tuple[bool, Pixels]:
    """Decode a JPEG (N,) of the given size. Returns success and pixels (H / part, W / part, 3), sides rounded up."""
    picture = np.empty((-(-height // part), -(-width // part), 3), np.uint8)
    # Height and width of the source and of the crop, crop offset, reduction; here without crop and mirror.
    failed = _imdecode(
        data.ctypes.data, data.size, height, width, picture.ctypes.data, height, width, 0, 0, 1, part, 0, 0
    )
    return failed == 0, picture


def render(
    sample_keys: SampleKeys,
    starts: SampleKeys,
    heights: Numbers,
    widths: Numbers,
    file: Pixels,
    places: SampleKeys,
    sizes: SampleKeys,
    augmentation: NDArray[np.float64],
    seed: np.uint64,
    jpeg: bool,
    augmented: bool,
    planes: Pixels,
    intact: NDArray[np.bool_],
) -> None:
    """planes (N, C, side, side) <- images of a beton for sample keys (N,); intact (N,) <- whether decoding succeeded.

    starts, heights, widths: (N,), of the stored images. file: the beton's bytes. places, sizes: FFCV's allocation
    table, sorted by place. augmentation: `augmentation.numbers_of`. C is 1 for geometry alone, or 3. jpeg: whether
    images are stored as JPEG. augmented: False leaves zeros for passes after 0.
    """
    strength, greyscale = augmentation[4:8], augmentation[9]
    for i in range(len(sample_keys)):
        draw, height, width = sample_keys[i], heights[i], widths[i]
        is_augmented = draw >> np.uint64(PASS_SHIFT) > 0
        if is_augmented and not augmented:
            planes[i] = 0
            intact[i] = True
            continue
        top, left, box_height, box_width, mirrored = view_of(height, width, augmentation, seed, draw)
        data = file[starts[i] : starts[i] + sizes[np.searchsorted(places, starts[i])]]
        if jpeg:
            part = kernels.reduction(min(box_height, box_width), planes.shape[-1])
            intact[i], picture = decode_jpeg(data, height, width, part)
        else:
            part = 1
            intact[i], picture = True, data.reshape(height, width, 3).copy()
        if intact[i]:
            kernels.resize_box(
                picture, top / part, left / part, box_height / part, box_width / part, mirrored, planes[i]
            )
            if is_augmented and planes.shape[1] == 3:
                kernels.colour(planes[i], strength, greyscale, seed, draw)
