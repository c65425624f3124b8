from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from align_dist.data.pixels import FRAMES, TRANSPARENT, decode_image, open_image, remarks_on

RAMP = np.linspace(0, 1, 20)[None].repeat(6, axis=0)


def stored(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def assert_ramp(data: bytes) -> None:
    """Grey from black to white, to within one level."""
    pixels = decode_image(data, 100).astype(float)
    assert pixels.shape == (6, 20, 3)
    assert np.abs(pixels - RAMP[..., None] * 255).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_16_bits_keeps_its_levels(kind: str) -> None:
    assert_ramp(stored(Image.fromarray((RAMP * 65535).astype(np.uint16)), kind))


def test_big_endian_grey_of_16_bits_keeps_its_levels() -> None:
    values = (RAMP * 65535).astype(">u2")
    assert_ramp(stored(Image.frombytes("I;16B", (20, 6), values.tobytes()), "TIFF"))


@pytest.mark.parametrize("top", [255, 65535])
def test_grey_of_32_bits_is_scaled_by_the_range_that_it_fits(top: int) -> None:
    assert_ramp(stored(Image.fromarray((RAMP * top).astype(np.int32)), "TIFF"))


@pytest.mark.parametrize("top", [1, 255])
def test_floating_point_grey_is_scaled_by_the_range_that_it_fits(top: int) -> None:
    assert_ramp(stored(Image.fromarray((RAMP * top).astype(np.float32)), "TIFF"))


@pytest.mark.parametrize(
    "values",
    [RAMP * 70000, RAMP * 255 - 10, np.where(RAMP > 0.5, np.nan, 0.5), np.where(RAMP > 0.5, np.inf, 0.5)],
    ids=["large", "negative", "nan", "infinite"],
)
def test_grey_of_no_known_range_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError):
        decode_image(stored(Image.fromarray(values.astype(np.float32)), "TIFF"), 100)


def test_integers_beyond_16_bits_are_refused() -> None:
    with pytest.raises(ValueError):
        decode_image(stored(Image.fromarray((RAMP * 70000).astype(np.int32)), "TIFF"), 100)


def see_through(mode: str) -> bytes:
    """Left half opaque red or black, right half transparent over a hidden colour."""
    if mode == "P":
        picture = Image.fromarray(np.repeat([[0, 1]], 4, axis=0).repeat(2, axis=1).astype(np.uint8), "P")
        picture.putpalette([200, 0, 0, 0, 90, 0])
        return stored(picture, "PNG", transparency=1)
    colours = {"RGBA": ((200, 0, 0, 255), (0, 90, 0, 0)), "LA": ((70, 255), (10, 0))}
    if mode in colours:
        picture = Image.new(mode, (4, 4), colours[mode][0])
        picture.paste(colours[mode][1], (2, 0, 4, 4))
        return stored(picture, "PNG")
    picture = Image.new(mode, (4, 4), (200, 0, 0) if mode == "RGB" else 70)
    picture.paste((0, 90, 0) if mode == "RGB" else 10, (2, 0, 4, 4))
    return stored(picture, "PNG", transparency=(0, 90, 0) if mode == "RGB" else 10)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_transparent_pixels_are_white_whatever_colour_they_hide(mode: str) -> None:
    data = see_through(mode)
    pixels = decode_image(data, 100)
    expected = (70, 70, 70) if mode in ("LA", "L") else (200, 0, 0)
    assert (pixels[:, :2] == expected).all() and (pixels[:, 2:] == 255).all()
    assert remarks_on(open_image(data)) == (TRANSPARENT,)


def test_a_transparent_level_of_16_bits_is_white() -> None:
    values = np.array([[0, 65535, 20000], [20000, 0, 40000]], np.uint16)
    data = bytearray(stored(Image.fromarray(values), "PNG"))
    chunk = b"tRNS" + (20000).to_bytes(2, "big")
    place = data.index(b"IDAT") - 4
    data[place:place] = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    assert decode_image(bytes(data), 100)[..., 0].tolist() == [[0, 255, 255], [255, 0, 156]]
    assert remarks_on(open_image(bytes(data))) == (TRANSPARENT,)


def test_half_transparent_pixels_are_half_white() -> None:
    pixels = decode_image(stored(Image.new("RGBA", (4, 4), (0, 100, 200, 128)), "PNG"), 100)
    assert np.abs(pixels.astype(int) - np.array([127, 177, 227])).max() <= 1


def test_an_alpha_channel_that_hides_nothing_is_not_remarked() -> None:
    picture = open_image(stored(Image.new("RGBA", (4, 4), (1, 2, 3, 255)), "PNG"))
    assert remarks_on(picture) == ()


def test_cmyk_is_shown_in_its_colours() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for data in (stored(red, "TIFF"), stored(red, "JPEG", quality=95)):
        pixels = decode_image(data, 100).astype(int)
        assert pixels[..., 0].min() > 235 and pixels[..., 1:].max() < 20


def test_one_bit_is_black_and_white() -> None:
    picture = Image.fromarray(RAMP > 0.5)
    assert picture.mode == "1"
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(decode_image(stored(picture, kind), 100)[..., 0], np.where(RAMP > 0.5, 255, 0))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_frames_is_used_and_remarked(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = stored(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (decode_image(data, 100) == (255, 0, 0)).all()
    assert remarks_on(open_image(data)) == (FRAMES,)
    assert remarks_on(open_image(stored(frames[0], kind))) == ()


def test_a_telephones_preview_is_no_second_frame() -> None:
    large, preview = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (8, 8), "red")
    data = stored(large, "MPO", save_all=True, append_images=[preview])
    assert open_image(data).format == "MPO"
    assert remarks_on(open_image(data)) == ()
