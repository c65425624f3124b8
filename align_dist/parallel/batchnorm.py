"""BatchNorm over ranks: over the global batch, or over each rank's share with running statistics averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from align_dist.parallel.collectives import sum_over_ranks
from align_dist.parallel.group import Group


class SynchronisedBatchNorm(_BatchNorm):
    """BatchNorm with training statistics over the images of all ranks, on any device.

    torch's SyncBatchNorm takes CUDA tensors only. The mean is reduced first, then the squared deviations, so that
    float32 keeps the accuracy of one process; gradients flow through both all-reduces. All ranks have the same number
    of images.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        values = images.to(torch.promote_types(images.dtype, torch.float32))
        dimensions = [0, *range(2, images.dim())]
        shape = [1, -1, *[1] * (images.dim() - 2)]
        count = images.numel() // images.shape[1] * dist.get_world_size()
        mean = sum_over_ranks(values.sum(dimensions)) / count
        centred = values - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(dimensions)) / count
        self._remember(mean.detach(), variance.detach() * count / max(count - 1, 1))
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(images.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics as torch does: unbiased variance, fixed or cumulative momentum."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def synchronise_batchnorm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every BatchNorm by one over all ranks; names, weights and buffers stay the same."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-any-return]
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _converted(child))
        else:
            synchronise_batchnorm(child, device)
    return module


def _converted(norm: Any) -> SynchronisedBatchNorm:
    synchronised = SynchronisedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta"
    )
    synchronised._parameters, synchronised._buffers, synchronised.training = (
        norm._parameters,
        norm._buffers,
        norm.training,
    )
    return synchronised


def local_statistics(module: nn.Module) -> list[Tensor]:
    """Running statistics that each rank updates with its own images: those of plain BatchNorm in training mode."""
    statistics: list[Tensor] = []
    for child in _learning(module):
        if not isinstance(child, SynchronisedBatchNorm | nn.SyncBatchNorm):
            statistics += [value for name, value in child.named_buffers() if name.startswith("running_")]
    return statistics


def _learning(module: nn.Module) -> list[_BatchNorm]:
    return [child for child in module.modules() if isinstance(child, _BatchNorm) and child.training]


@dataclass(frozen=True)
class StatisticsSnapshot:
    """Buffers that forward passes update, and copies of their earlier values, one tensor per dtype."""

    buffers: dict[torch.dtype, list[Tensor]]
    copies: dict[torch.dtype, Tensor]


def snapshot_statistics(module: nn.Module) -> StatisticsSnapshot:
    """Copy the current statistics of every BatchNorm in training mode."""
    buffers: dict[torch.dtype, list[Tensor]] = {}
    for child in _learning(module):
        for value in child.buffers():
            buffers.setdefault(value.dtype, []).append(value)
    return StatisticsSnapshot(buffers, {dtype: _flat(values) for dtype, values in buffers.items()})


def restore_statistics(snapshot: StatisticsSnapshot, healthy: Tensor) -> None:
    """Restore the earlier statistics where `healthy`, a 0-d tensor on the device, is 0, without the host waiting."""
    for dtype, values in snapshot.buffers.items():
        kept_values = torch.where(healthy > 0, _flat(values), snapshot.copies[dtype])
        _copy_into(values, kept_values)


def _flat(values: list[Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values])


def _copy_into(values: list[Tensor], flat: Tensor) -> None:
    parts = flat.split([value.numel() for value in values])
    torch._foreach_copy_(values, [part.view_as(value) for part, value in zip(parts, values, strict=True)])


def average_statistics(module: nn.Module, group: Group) -> None:
    """Replace each rank's running statistics by their mean over ranks, in one all-reduce. Collective."""
    statistics = local_statistics(module) if group.world_size > 1 else []
    if statistics:
        _copy_into(statistics, group.mean_(_flat(statistics)))
