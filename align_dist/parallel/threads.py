"""How many threads torch computes with: the cores of a rank, whatever was imported before."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from align_dist.parallel.group import Group


def use_cores(asked: int, group: Group, environment: Mapping[str, str]) -> None:
    """Gives torch its number of threads. asked: by training.threads, 0 for the rank's own cores."""
    torch.set_num_threads(thread_count(asked, group.cores, group.world_size, environment))


def thread_count(asked: int, cores: int, world_size: int, environment: Mapping[str, str]) -> int:
    """What is asked for; else the rank's cores, but for one rank no more than OMP_NUM_THREADS.

    Several ranks do not read that variable: torchrun sets it to 1 for each of them. ≥ 1.
    """
    if asked:
        return asked
    told = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    limit = int(told) if told.isdigit() and world_size == 1 else 0
    return max(1, min(cores, limit or cores))
