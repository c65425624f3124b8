"""Counts per step: operations, kernel launches, and waits of the host for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

# Operations that need a tensor's value on the host, and so wait for all queued work of an accelerator.
HOST_READS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::_unique2",
    "aten::unique_consecutive",
    "aten::unique_dim",
    "aten::bincount",
    "aten::masked_select",
    "aten::equal",
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
}


class Counts(NamedTuple):
    """operations: torch operations, including nested ones. launches: accelerator kernels. reads: waits of the host."""

    operations: int
    launches: int
    reads: int


def count(work: Callable[[], object]) -> Counts:
    """Counts of one call of `work`, from torch's profiler."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as trace:
        work()
    events = trace.events() or []
    names = [event.name for event in events]
    return Counts(
        operations=sum(name.startswith("aten::") for name in names),
        launches=sum(event.device_type.name == "CUDA" for event in events),
        reads=sum(name in HOST_READS for name in names),
    )
