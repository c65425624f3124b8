"""Differentiable collectives: each rank's loss depends on the inputs of all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _SumOverRanks(torch.autograd.Function):
    """y = Σ over ranks of x. Each rank's loss depends on every rank's x, so gradients are summed as well."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone()
        dist.all_reduce(summed)
        return summed


class _Concatenate(torch.autograd.Function):
    """y = concatenation of the ranks' x. The gradient of a rank's x is the sum of all ranks' gradients."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over ranks, on every rank."""
    summed: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]
    return summed


def concatenate_over_ranks(values: Tensor) -> Tensor:
    """Concatenate each rank's (B, ...) to (R · B, ...), in the order of ranks; B is the same on all ranks."""
    concatenated: Tensor = _Concatenate.apply(values)  # type: ignore[no-untyped-call]
    return concatenated
