"""Context managers for evaluation mode and full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def in_evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Set `module` to evaluation mode (BatchNorm, dropout), and restore each submodule's mode on exit."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode


def in_full_precision(computed: Tensor) -> AbstractContextManager[Any]:
    """Turn autocast off where `computed`, the output of a convolution or linear layer, has 16 bits.

    Otherwise nothing is done, because torch's meta device has no autocast.
    """
    return torch.autocast(computed.device.type, enabled=False) if computed.dtype.itemsize < 4 else nullcontext()
