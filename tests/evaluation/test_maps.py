from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter

from align_dist.evaluation.maps import blur


@pytest.mark.parametrize(("size", "sigma", "height", "width"), [(11, 5.0, 20, 31), (11, 5.0, 6, 7), (5, 1.5, 12, 9)])
def test_blur_is_rises_kernel_convolved_with_zero_padding(size: int, sigma: float, height: int, width: int) -> None:
    point = np.zeros((size, size))
    point[size // 2, size // 2] = 1
    kernel = gaussian_filter(point, sigma)
    image = np.random.default_rng(0).normal(size=(2, 3, height, width))
    expected = np.stack([[convolve(c, kernel, mode="constant") for c in one] for one in image])
    np.testing.assert_allclose(blur(torch.from_numpy(image), size, sigma).numpy(), expected, atol=1e-6)


def test_blur_keeps_a_constant_away_from_the_border() -> None:
    blurred = blur(torch.full((1, 3, 40, 40), 2.0))
    torch.testing.assert_close(blurred[..., 5:-5, 5:-5], torch.full((1, 3, 30, 30), 2.0))
    assert blurred[0, 0, 0, 0] < 1.0
