from __future__ import annotations

import numpy as np
from PIL import Image

from align_dist.bench.loader import profile, stored_pictures
from align_dist.config import RunConfig
from align_dist.data.comparison import checked_manifest
from align_dist.data.sample_keys import pack_keys


def test_what_is_profiled_are_the_betons_own_pictures(squares: RunConfig) -> None:
    """Raw pixels, so each equals its file."""
    manifest, samples = checked_manifest(squares.benchmark), np.array([50, 3, 95])
    for sample, (data, height, width) in zip(samples, stored_pictures(squares.benchmark.beton, samples), strict=True):
        with Image.open(squares.benchmark.root / manifest.paths[sample]) as picture:
            assert np.array_equal(data.reshape(height, width, 3), np.asarray(picture.convert("RGB")))


def test_every_step_of_loading_is_timed_and_raw_pixels_are_not_decoded(squares: RunConfig) -> None:
    seconds = profile(squares, pack_keys(np.arange(20), 1))
    assert seconds.pop("decode") == 0
    assert set(seconds) == {"resize", "jitter", "greyscale", "normalise"}
    assert all(spent > 0 for spent in seconds.values())
