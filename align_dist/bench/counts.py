"""What a step asks of a device besides arithmetic: operations, kernel launches, and waits of the host for a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

# Each needs a value of a tensor on the host: on an accelerator all that is queued is waited for.
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
    """operations: of torch, nested ones as well. launches: of kernels on an accelerator. reads: by the host."""

    operations: int
    launches: int
    reads: int


def count(work: Callable[[], object]) -> Counts:
    """What one call of `work` asks for, by torch's profiler."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as seen:
        work()
    events = seen.events() or []
    names = [event.name for event in events]
    return Counts(
        operations=sum(name.startswith("aten::") for name in names),
        launches=sum(event.device_type.name == "CUDA" for event in events),
        reads=sum(name in HOST_READS for name in names),
    )
