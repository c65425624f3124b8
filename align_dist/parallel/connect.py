"""Joins the ranks that a launcher started, and parts them again whatever happens."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from align_dist.config import DistributedConfig
from align_dist.errors import LostRankError, MachineError, first_line
from align_dist.machine import available_cores
from align_dist.parallel.devices import identity_of, index_of, refuse_shared
from align_dist.parallel.group import Group
from align_dist.parallel.local import free_port
from align_dist.parallel.ranks import Ranks, find_ranks

USED = "align_dist/used"
T = TypeVar("T")


@contextmanager
def connected(config: DistributedConfig, device: str, environment: Mapping[str, str] = os.environ) -> Iterator[Group]:
    """The run's group while inside. device: `cpu` or `cuda`; a CUDA rank gets the device of its local rank.

    Raises MachineError for ranks that cannot be joined, LostRankError when a collective fails later.
    """
    ranks = find_ranks(environment)
    needed = config.engine == "ddp" or config.engine == "deepspeed"
    if ranks.world_size == 1 and not needed:
        yield Group()
        return
    if config.engine == "plain" and ranks.world_size > 1:
        raise MachineError(
            f"distributed.engine: plain is for one rank and {ranks.launcher} started {ranks.world_size}; "
            "set it to auto, ddp or deepspeed"
        )
    timeout = timedelta(seconds=config.timeout)
    if device == "cuda":
        torch.cuda.set_device(index_of(ranks, torch.cuda.device_count()))
    _join(ranks, _backend(config.backend, device), timeout, environment)
    try:
        control = dist.new_group(backend="gloo", timeout=timeout)
        if device == "cuda":
            refuse_shared(_gathered(identity_of(torch.cuda.current_device(), environment), ranks.world_size, control))
        cores = _own_cores(ranks.world_size, control)
        with _deepspeeds_environment(ranks.local_rank, device):
            yield Group(ranks.rank, ranks.world_size, ranks.local_rank, ranks.local_world_size, cores, control)
    except RuntimeError as error:
        if not _is_lost_rank(error):
            raise
        raise LostRankError(
            f"rank {ranks.rank} of {ranks.world_size} lost another rank, or waited {config.timeout:g} s for it "
            f"(distributed.timeout): {first_line(error)}; the same command resumes from the last checkpoint"
        ) from None
    finally:
        # gloo otherwise ends in "terminate called without an active exception".
        dist.destroy_process_group()


def _join(ranks: Ranks, backend: str, timeout: timedelta, environment: Mapping[str, str]) -> None:
    port = ranks.port or free_port()
    # Under torchrun the agent holds the store; otherwise rank 0 does.
    agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        holds = ranks.rank == 0 and not agent
        store = TCPStore(ranks.address, port, ranks.world_size, holds, timeout, wait_for_workers=not agent)
        # torchrun's static rendezvous keeps one store over its restarts: addresses of dead ranks are still in it.
        restart = environment.get("TORCHELASTIC_RESTART_COUNT", "0") if store.check([USED]) else "none"
        attempt = PrefixStore(f"align_dist/{restart}", store)
        dist.init_process_group(backend, store=attempt, rank=ranks.rank, world_size=ranks.world_size, timeout=timeout)
        store.set(USED, "yes")
    except (RuntimeError, ValueError) as error:
        raise MachineError(
            f"rank {ranks.rank} of {ranks.world_size} cannot meet the others at {ranks.address}:{port} "
            f"({first_line(error)}); if the port is taken set MASTER_PORT to a free one"
        ) from None


@contextmanager
def _deepspeeds_environment(local_rank: int, device: str) -> Iterator[None]:
    """Variables that DeepSpeed insists on, whoever started us, while ranks are joined: later, or in a child, one of
    them alone would look like a half-set launcher.
    """
    wanted = {"LOCAL_RANK": str(local_rank), "DS_ACCELERATOR": device}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _own_cores(world_size: int, control: Any) -> int:
    """Cores of this rank alone: those it may use, divided among the ranks of this node that have the same ones."""
    mine = (socket.gethostname(), sorted(os.sched_getaffinity(0)), available_cores())
    return max(1, mine[2] // _gathered(mine, world_size, control).count(mine))


def _gathered(value: T, world_size: int, control: Any) -> list[T]:
    """Every rank's value, by rank."""
    every: list[Any] = [None] * world_size
    dist.all_gather_object(every, value, group=control)
    return every


def _backend(name: str, device: str) -> str:
    if name != "auto":
        return name
    return "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"


LOST = ("connection", "timed out", "timeout", "gloo", "nccl", "peer", "socket", "broken pipe", "store")


def _is_lost_rank(error: RuntimeError) -> bool:
    """torch has no one type for it: gloo raises RuntimeError, NCCL and the store subclasses of DistError."""
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in LOST)
