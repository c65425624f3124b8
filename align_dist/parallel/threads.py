"""Torch's number of threads: the cores of a rank, whatever earlier imports have set."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from align_dist.parallel.group import Group


def set_torch_threads(threads: int, group: Group, environment: Mapping[str, str]) -> None:
    """Set torch's number of threads. threads: the value of training.threads, 0 for the rank's cores."""
    torch.set_num_threads(thread_count(threads, group.cores, group.world_size, environment))


def thread_count(threads: int, cores: int, world_size: int, environment: Mapping[str, str]) -> int:
    """The given number of threads, or for 0 the rank's cores, limited on a single rank by OMP_NUM_THREADS; at least 1.

    With several ranks the variable is ignored, because torchrun sets it to 1 for every rank.
    """
    if threads:
        return threads
    variable = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    limit = int(variable) if variable.isdigit() and world_size == 1 else 0
    return max(1, min(cores, limit or cores))
