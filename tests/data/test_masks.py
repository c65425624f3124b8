from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from refusals import raises

from align_dist.data.mask_values import MaskValues, decide_reading
from align_dist.data.masks import decode_mask, inspect_mask
from align_dist.data.pixels import open_image
from align_dist.errors import DataError

SQUARE = np.zeros((12, 16), np.uint8)
SQUARE[3:9, 4:10] = 1
# VOC's first colours.
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [7, 8, 9] * 251 + [224, 224, 192]


def grey(values: Any) -> bytes:
    return stored(Image.fromarray(np.asarray(values)))


def palette(values: np.ndarray, colours: Sequence[int] = VOC) -> bytes:
    picture = Image.fromarray(values, "P")
    picture.putpalette(list(colours))
    return stored(picture)


def stored(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def read(files: Sequence[bytes], values: MaskValues = "auto") -> list[np.ndarray]:
    """Each file's mask in [0, 255], (H, W), as a benchmark of these files stores it."""
    names = [f"{index}.png" for index in range(len(files))]
    reading = decide_reading(names, [inspect_mask(open_image(data)) for data in files], values)
    masks = [decode_mask(data, 100, reading) for data in files]
    assert all(np.array_equal(mask[..., 0], mask[..., channel]) for mask in masks for channel in (1, 2))
    return [mask[..., 0] for mask in masks]


def alpha(mode: str) -> bytes:
    """A cut-out: the object in its colours, opaque; black, transparent elsewhere."""
    colours = np.random.default_rng(0).integers(0, 256, (*SQUARE.shape, 3 if mode == "RGBA" else 1), dtype=np.uint8)
    return stored(Image.fromarray(np.concatenate([colours * SQUARE[..., None], SQUARE[..., None] * 255], axis=2), mode))


@pytest.mark.parametrize(
    "data",
    [
        grey(SQUARE * 255),
        grey(SQUARE),
        grey(SQUARE * 8),
        grey(SQUARE * 200),
        grey(SQUARE > 0),
        grey(SQUARE.astype(np.uint16) * 65535),
        grey(SQUARE.astype(np.uint16)),
        grey((SQUARE * 255)[..., None].repeat(3, axis=2)),
        palette(SQUARE * 12),
        palette(SQUARE * 255),
        alpha("RGBA"),
        alpha("LA"),
    ],
    ids=["255", "1", "8", "200", "bool", "65535", "16bit1", "rgb", "palette", "palette255", "rgba", "la"],
)
def test_an_object_is_read_however_it_is_marked(data: bytes) -> None:
    assert np.array_equal(read([data])[0], SQUARE * 255)


def test_palettes_are_read_by_index_and_void_is_background() -> None:
    first = SQUARE * 15
    first[2, 4:10] = 255
    second = SQUARE * 0
    second[0, 0] = 3
    masks = read([palette(first), palette(second)])
    assert np.array_equal(masks[0], SQUARE * 255)
    assert np.array_equal(masks[1], np.where(second == 3, 255, 0))
    # Colours say nothing: the same indices shown otherwise are the same mask.
    odd = [0, 0, 0] + [255, 255, 255] * 255
    assert np.array_equal(read([palette(first, odd)])[0], SQUARE * 255)


def test_all_files_of_a_benchmark_are_read_alike() -> None:
    # 255 alone is the object; beside indices of other files it is void.
    void = SQUARE * 8
    void[0] = 255
    assert np.array_equal(read([grey(SQUARE * 255)])[0], SQUARE * 255)
    assert np.array_equal(read([grey(void), grey(SQUARE * 12)])[0], SQUARE * 255)
    # An opaque file among cut-outs is object all over, by itself it is its grey values.
    opaque = stored(Image.fromarray(np.stack([SQUARE * 255, SQUARE * 0 + 255], axis=2), "LA"))
    assert np.array_equal(read([opaque])[0], SQUARE * 255)
    assert (read([alpha("LA"), opaque])[1] == 255).all()
    # A dark file among those of 16 bits is dark.
    deep = grey(np.linspace(0, 65535, 192).astype(np.uint16).reshape(12, 16))
    dark = grey(SQUARE.astype(np.uint16) * 100)
    assert np.array_equal(read([deep, dark], "soft")[1], SQUARE * 0)


@given(top=st.sampled_from([255, 65535]), seed=st.integers(0, 99))
def test_soft_masks_stay_soft(top: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (24, 32))
    values[0, 0] = 255  # 16 bits are told from 8 by a value above 255
    data = grey((values * (top // 255)).astype(np.uint8 if top == 255 else np.uint16))
    assert np.array_equal(read([data])[0], values)


def test_soft_edges_and_lossy_masks_are_kept_as_they_are() -> None:
    edges = np.asarray(Image.fromarray(SQUARE * 255).resize((80, 60), Image.Resampling.BICUBIC))
    assert np.array_equal(read([grey(edges)])[0], edges)
    lossy = np.random.default_rng(0).integers(0, 8, SQUARE.shape).astype(np.uint8) + SQUARE * 248
    assert np.array_equal(read([grey(lossy)])[0], lossy)


def test_a_list_names_the_values_that_are_the_object() -> None:
    values = SQUARE * 8
    values[0] = 12
    values[1] = 255
    for data in (grey(values), palette(values), grey(values.astype(np.uint16))):
        assert np.array_equal(read([data], (8,))[0], np.where(values == 8, 255, 0))
        assert np.array_equal(read([data], (12, 255))[0], np.where(values >= 12, 255, 0))
    deep = values.astype(np.uint16) * 100
    assert np.array_equal(read([grey(deep)], (1200,))[0], np.where(values == 12, 255, 0))
    inverted = palette(SQUARE, [255, 255, 255, 0, 0, 0])
    assert np.array_equal(read([inverted], (0,))[0], 255 - SQUARE * 255)


def test_what_is_asked_for_settles_what_is_ambiguous() -> None:
    values = SQUARE * 128
    values[0] = 255
    with pytest.raises(DataError):
        read([grey(values)])
    assert np.array_equal(read([grey(values)], "soft")[0], values)
    assert np.array_equal(read([grey(values)], "index")[0], SQUARE * 255)


coloured = stored(Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)))
levels = SQUARE * 64
levels[0], levels[1] = 128, 255


@pytest.mark.parametrize(
    ("files", "values", "names"),
    [
        ([grey(SQUARE * 255), grey(levels)], "auto", ["1.png", "64, 128, 255", "benchmark.mask_values"]),
        ([grey(SQUARE), coloured], "auto", ["1.png"]),
        ([grey(SQUARE), coloured], (8,), ["1.png"]),
        ([grey(SQUARE * 0)] * 3, "auto", ["0.png", "3 masks"]),
        ([grey(SQUARE * 5)], (8, 9), ["benchmark.mask_values", "[8, 9]", "0, 5"]),
        ([palette(SQUARE, [255, 255, 255, 0, 0, 0])], "auto", ["0.png", "palette", "benchmark.mask_values"]),
        ([palette(SQUARE)], "soft", ["0.png", "palette"]),
        ([grey(SQUARE * 255), grey(SQUARE)], "auto", ["0.png", "255", "1 of 2", "benchmark.mask_values"]),
        ([alpha("RGBA"), grey(SQUARE)], "auto", ["1.png", "alpha"]),
    ],
    ids=["levels", "coloured", "coloured-list", "empty", "absent", "palette", "soft-palette", "255-and-1", "no-alpha"],
)
def test_what_stays_ambiguous_is_refused_in_one_line(files: list[bytes], values: MaskValues, names: list[str]) -> None:
    with raises(DataError, *names):
        read(files, values)
