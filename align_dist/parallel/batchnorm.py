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
    """BatchNorm whose training statistics are those of all ranks' images together, on any device.

    torch's own SyncBatchNorm takes CUDA tensors only. Mean first and then the squared deviations from it, so that
    float32 keeps the accuracy of one process; both all-reduces carry gradients. Every rank brings as many images.
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
        deviation = values - mean.view(shape)
        variance = sum_over_ranks(deviation.square().sum(dimensions)) / count
        self._remember(mean.detach(), variance.detach() * count / max(count - 1, 1))
        scaled = deviation * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(images.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics as torch does: the unbiased variance, a fixed or a cumulative momentum."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def synchronise_batchnorm(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with every BatchNorm taken over all ranks; names, weights and buffers stay what they were."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-any-return]
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _converted(child))
        else:
            synchronise_batchnorm(child, device)
    return module


def _converted(norm: Any) -> SynchronisedBatchNorm:
    made = SynchronisedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta"
    )
    made._parameters, made._buffers, made.training = norm._parameters, norm._buffers, norm.training
    return made


def local_statistics(module: nn.Module) -> list[Tensor]:
    """Running statistics that each rank moves by its own images: those of plain BatchNorm in training mode."""
    found: list[Tensor] = []
    for child in _learning(module):
        if not isinstance(child, SynchronisedBatchNorm | nn.SyncBatchNorm):
            found += [value for name, value in child.named_buffers() if name.startswith("running_")]
    return found


def _learning(module: nn.Module) -> list[_BatchNorm]:
    return [child for child in module.modules() if isinstance(child, _BatchNorm) and child.training]


@dataclass(frozen=True)
class Statistics:
    """What forward passes move in a network, and what it was: buffers, and their copies in one tensor a dtype."""

    moving: dict[torch.dtype, list[Tensor]]
    before: dict[torch.dtype, Tensor]


def remember_statistics(module: nn.Module) -> Statistics:
    """The statistics of every BatchNorm in training mode as they are now."""
    moving: dict[torch.dtype, list[Tensor]] = {}
    for child in _learning(module):
        for value in child.buffers():
            moving.setdefault(value.dtype, []).append(value)
    return Statistics(moving, {dtype: _flat(values) for dtype, values in moving.items()})


def keep_statistics(statistics: Statistics, healthy: Tensor) -> None:
    """Puts back what was where `healthy`, a 0-d tensor on the device, is 0; the host does not wait for it."""
    for dtype, values in statistics.moving.items():
        chosen = torch.where(healthy > 0, _flat(values), statistics.before[dtype])
        _copy_into(values, chosen)


def _flat(values: list[Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values])


def _copy_into(values: list[Tensor], flat: Tensor) -> None:
    parts = flat.split([value.numel() for value in values])
    torch._foreach_copy_(values, [part.view_as(value) for part, value in zip(parts, values, strict=True)])


def average_statistics(module: nn.Module, group: Group) -> None:
    """Puts the mean over ranks in place of each rank's own running statistics, in one all-reduce. Collective."""
    statistics = local_statistics(module) if group.world_size > 1 else []
    if statistics:
        _copy_into(statistics, group.mean_(_flat(statistics)))
