"""Ways of computing for a while: evaluation mode and full precision, whatever surrounds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def in_evaluation_mode(module: nn.Module) -> Iterator[None]:
    """BatchNorm and dropout of `module` in evaluation mode; on leaving, every part's own mode again."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode


def in_full_precision(computed: Tensor) -> AbstractContextManager[Any]:
    """No autocast, where 16 bits of `computed`, a convolution's or linear layer's output, show that there is one.

    Elsewhere nothing is done, for torch's meta device knows no autocast.
    """
    return torch.autocast(computed.device.type, enabled=False) if computed.dtype.itemsize < 4 else nullcontext()
