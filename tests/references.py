"""What the tests of objectives share: random numbers, float64 references in NumPy, and finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from torch import Tensor

Array = NDArray[np.float64]
EPSILON = 1e-2
CLASSES = 5
# One class of three, one of two, one of one image; classes 1 and 4 are absent.
LABELS = torch.tensor([0, 2, 0, 3, 2, 0])


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rand(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def assert_gradient(ours: Callable[[Tensor], Tensor], reference: Callable[[Array], float], at: Tensor) -> None:
    """Value and gradient of a float32 term are those of a float64 reference written apart from the package."""
    leaf, point = at.detach().clone().requires_grad_(), at.double().numpy()
    loss = ours(leaf)
    (gradient,) = torch.autograd.grad(loss, leaf)
    expected = approx_fprime(point.ravel(), lambda x: reference(x.reshape(point.shape)), 1e-7)
    assert float(loss.detach()) == pytest.approx(reference(point), rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(gradient.numpy().ravel(), expected, rtol=2e-3, atol=1e-5)


def softmax(logits: Array) -> Array:
    exponentials: Array = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def held_normalise(maps: Array, like: Tensor) -> Array:
    """min–max whose epsilon's scale is that of `like`, held constant."""
    scale = np.abs(like.double().numpy()).max((1, 2), keepdims=True)
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    result: Array = (maps - low) / (high - low + EPSILON * scale)
    return result
