"""The DDP engine: every rank holds the whole network, and gradients are averaged during backward."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from align_dist.parallel.batchnorm import average_statistics
from align_dist.parallel.group import Group
from align_dist.parallel.plain import PlainEngine


class DDPEngine(PlainEngine):
    """See `parallel.engine.Engine`. Norms, clipping and the guard come from the plain engine, because after the
    all-reduce every rank holds the same gradients.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        group: Group,
        *,
        gradient_clip: float | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(module, optimiser, gradient_clip=gradient_clip, precision=precision)
        self._group = group
        # The only buffers are BatchNorm's, which are equal on all ranks after every update (see `update`).
        devices = [self._device] if self._device.type == "cuda" else None
        # A warning about 1×1 kernels, whose strides are irrelevant, once per rank at the first backward.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        with warnings.catch_warnings():
            # Newer torch has renamed the argument, and older torch does not accept the new name.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            self._wrapped = DistributedDataParallel(
                module, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
            )

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        with self.autocast():
            return self._wrapped(*inputs, **keywords)

    def _average_statistics(self) -> None:
        average_statistics(self.module, self._group)

    def _reducing(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self._wrapped.no_sync()
