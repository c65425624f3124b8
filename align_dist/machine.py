"""The machine a process finds itself on."""

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
# Of glibc's mallopt, see malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def available_cores() -> int:
    """Cores this process may use: its cpuset's, or fewer where a cgroup's quota gives it the time of fewer; at least 1.

    FFCV's own count, the machine's, crashes in a cpuset, and as many threads as cores wait for each other's share of a
    quota.
    """
    cores = len(os.sched_getaffinity(0))
    quota = cpu_quota(read_text(Path("/proc/self/cgroup")), CGROUPS)
    return max(1, math.ceil(min(cores, quota)))


def cpu_quota(membership: str, mounted: Path) -> float:
    """Cores' worth of time that a process's cgroups give it, the least of all levels; infinity where none says.

    membership: the text of its /proc/<id>/cgroup. mounted: where the hierarchies of version 1 and 2 are. Version 2 says
    it in `cpu.max`, version 1 in `cpu.cfs_quota_us` and `cpu.cfs_period_us`, in each folder from the process's own to
    the root (https://docs.kernel.org/admin-guide/cgroup-v2.html, .../cgroup-v1/index.html, and
    .../scheduler/sched-bwc.html). A container sees its own folder as the root.
    """
    found = [math.inf]
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in {mounted / controllers, mounted / ("cpu" if controllers else "unified")}:
            found += [_quota_of(folder) for folder in _up_to(root, path)]
    return min(found)


def _up_to(root: Path, path: str) -> Iterator[Path]:
    own = root / path.strip("/")
    yield own
    yield from own.parents[: len(own.parts) - len(root.parts)]


def _quota_of(folder: Path) -> float:
    """Of one cgroup; infinity where it has none, or says something else."""
    words = read_text(folder / "cpu.max").split()
    if not words:
        words = [*read_text(folder / "cpu.cfs_quota_us").split(), *read_text(folder / "cpu.cfs_period_us").split()]
    numbers = [int(word) for word in words if word.isdigit()]  # `max` and -1 are no limit
    return numbers[0] / numbers[1] if len(numbers) == 2 and numbers[1] > 0 else math.inf


def read_text(path: Path) -> str:
    """What a file of the kernel's says; nothing where it is not there or may not be read."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def check_semaphores() -> None:
    """Raises MachineError where processes cannot share locks, which Linux keeps in /dev/shm."""
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise MachineError(
            f"/dev/shm: {error.strerror}: the processes that write a beton need semaphores there; mount it writable, "
            "a container's with --shm-size=64m or `mount -t tmpfs tmpfs /dev/shm`"
        ) from None


def keep_freed_memory() -> None:
    """Lets this process keep up to 256 MiB that it freed, for its next batch, instead of giving it back to the kernel.

    glibc gives back any block of 32 MiB and takes it anew, page by page and zeroed: for a batch of 64 images of 224 px
    that takes three times as long as normalising them. Elsewhere than on glibc nothing changes.
    """
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is not None:
        for parameter in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            allocator(parameter, 1 << 28)


def describe_machine() -> str:
    """Processor and cores, as results name their hardware."""
    return f"{_processor()}, {available_cores()} of {os.cpu_count()} cores"


def _processor() -> str:
    lines = read_text(Path("/proc/cpuinfo")).splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
