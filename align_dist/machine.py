"""The machine that a process runs on: cores, semaphores, memory allocator, description."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from align_dist.errors import MachineError

CGROUPS = Path("/sys/fs/cgroup")
# Parameters of glibc's mallopt, see malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def available_cores() -> int:
    """Number of cores that this process may use: those of its cpuset, limited by its cgroup's CPU quota; at least 1.

    FFCV counts the machine's cores, which crashes in a cpuset. Under a quota, one thread per core of the machine would
    be throttled.
    """
    cores = len(os.sched_getaffinity(0))
    quota = cpu_quota(read_text(Path("/proc/self/cgroup")), CGROUPS)
    return max(1, math.ceil(min(cores, quota)))


def cpu_quota(membership: str, mounted: Path) -> float:
    """CPU quota of a process in cores, the smallest over all levels of its cgroups; infinity without a quota.

    membership: the text of /proc/<id>/cgroup. mounted: the folder of the cgroup hierarchies, version 1 and 2. Version 2
    keeps the quota in `cpu.max`, version 1 in `cpu.cfs_quota_us` and `cpu.cfs_period_us`, in each folder from the
    process's own to the root (https://docs.kernel.org/admin-guide/cgroup-v2.html, .../cgroup-v1/index.html, and
    .../scheduler/sched-bwc.html). A container sees its own folder as the root.
    """
    quotas = [math.inf]
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in {mounted / controllers, mounted / ("cpu" if controllers else "unified")}:
            quotas += [_quota_of(folder) for folder in _up_to(root, path)]
    return min(quotas)


def _up_to(root: Path, path: str) -> Iterator[Path]:
    folder = root / path.strip("/")
    yield folder
    yield from folder.parents[: len(folder.parts) - len(root.parts)]


def _quota_of(folder: Path) -> float:
    """Quota of one cgroup in cores; infinity without a readable quota."""
    words = read_text(folder / "cpu.max").split()
    if not words:
        words = [*read_text(folder / "cpu.cfs_quota_us").split(), *read_text(folder / "cpu.cfs_period_us").split()]
    numbers = [int(word) for word in words if word.isdigit()]  # `max` and -1 are no limit
    return numbers[0] / numbers[1] if len(numbers) == 2 and numbers[1] > 0 else math.inf


def read_text(path: Path) -> str:
    """Text of a kernel file; empty where the file is missing or unreadable."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def check_semaphores() -> None:
    """Raise MachineError where processes cannot share locks, which Linux keeps in /dev/shm."""
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise MachineError(
            f"/dev/shm: {error.strerror}: the processes that write a beton need semaphores there; mount it writable, "
            "a container's with --shm-size=64m or `mount -t tmpfs tmpfs /dev/shm`"
        ) from None


def keep_freed_memory() -> None:
    """Let this process reuse up to 256 MiB of freed memory for the next batch instead of returning it to the kernel.

    glibc returns every block of 32 MiB and allocates a new one, zeroed page by page: for a batch of 64 images of
    224 px that takes three times as long as normalising. Without glibc nothing changes.
    """
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is not None:
        for parameter in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            allocator(parameter, 1 << 28)


def describe_machine() -> str:
    """Processor and cores, as recorded with results."""
    return f"{_processor()}, {available_cores()} of {os.cpu_count()} cores"


def _processor() -> str:
    lines = read_text(Path("/proc/cpuinfo")).splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
