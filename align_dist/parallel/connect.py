"""Connection of the ranks that a launcher started."""

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
from align_dist.parallel.devices import check_distinct_gpus, gpu_index, identity_of
from align_dist.parallel.group import Group
from align_dist.parallel.local import free_port
from align_dist.parallel.ranks import Ranks, find_ranks

USED = "align_dist/used"
T = TypeVar("T")


@contextmanager
def process_group(
    config: DistributedConfig, device: str, environment: Mapping[str, str] = os.environ
) -> Iterator[Group]:
    """Connect the ranks, and yield the run's group. device: `cpu` or `cuda`; a CUDA rank gets its local rank's GPU.

    Raises MachineError for ranks that cannot connect, LostRankError where a later collective fails.
    """
    ranks = find_ranks(environment)
    is_distributed = config.engine == "ddp" or config.engine == "deepspeed"
    if ranks.world_size == 1 and not is_distributed:
        yield Group()
        return
    if config.engine == "plain" and ranks.world_size > 1:
        raise MachineError(
            f"distributed.engine: plain is for one rank, and {ranks.launcher} started {ranks.world_size}; "
            "set it to auto, ddp or deepspeed"
        )
    timeout = timedelta(seconds=config.timeout)
    if device == "cuda":
        torch.cuda.set_device(gpu_index(ranks, torch.cuda.device_count()))
    _join(ranks, _backend(config.backend, device), timeout, environment)
    try:
        control = dist.new_group(backend="gloo", timeout=timeout)
        if device == "cuda":
            check_distinct_gpus(
                _gather_objects(identity_of(torch.cuda.current_device(), environment), ranks.world_size, control)
            )
        cores = _own_cores(ranks.world_size, control)
        with _deepspeed_environment(ranks.local_rank, device):
            yield Group(ranks.rank, ranks.world_size, ranks.local_rank, ranks.local_world_size, cores, control)
    except RuntimeError as error:
        if not _is_lost_rank(error):
            raise
        raise LostRankError(
            f"rank {ranks.rank} of {ranks.world_size} lost another rank, or waited {config.timeout:g} s for it "
            f"(distributed.timeout): {first_line(error)}; run the same command again to resume"
        ) from None
    finally:
        # Otherwise gloo ends with "terminate called without an active exception".
        dist.destroy_process_group()


def _join(ranks: Ranks, backend: str, timeout: timedelta, environment: Mapping[str, str]) -> None:
    port = ranks.port or free_port()
    # Under torchrun the agent holds the store; otherwise rank 0 does.
    agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        is_host = ranks.rank == 0 and not agent
        store = TCPStore(ranks.address, port, ranks.world_size, is_host, timeout, wait_for_workers=not agent)
        # torchrun's static rendezvous keeps one store over restarts, with addresses of dead ranks.
        restart = environment.get("TORCHELASTIC_RESTART_COUNT", "0") if store.check([USED]) else "none"
        attempt = PrefixStore(f"align_dist/{restart}", store)
        dist.init_process_group(backend, store=attempt, rank=ranks.rank, world_size=ranks.world_size, timeout=timeout)
        store.set(USED, "yes")
    except (RuntimeError, ValueError) as error:
        raise MachineError(
            f"rank {ranks.rank} of {ranks.world_size} cannot connect to the other ranks at {ranks.address}:{port} "
            f"({first_line(error)}); if the port is in use, set MASTER_PORT to a free one"
        ) from None


@contextmanager
def _deepspeed_environment(local_rank: int, device: str) -> Iterator[None]:
    """Set the variables that DeepSpeed requires while ranks are connected. Afterwards, or in a child process, one such
    variable alone would look like a half-set launcher.
    """
    variables = {"LOCAL_RANK": str(local_rank), "DS_ACCELERATOR": device}
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _own_cores(world_size: int, control: Any) -> int:
    """Number of cores of this rank: its available cores, divided by the ranks of this node that share the cores."""
    own = (socket.gethostname(), sorted(os.sched_getaffinity(0)), available_cores())
    return max(1, own[2] // _gather_objects(own, world_size, control).count(own))


def _gather_objects(value: T, world_size: int, control: Any) -> list[T]:
    """Values of all ranks, by rank."""
    values: list[Any] = [None] * world_size
    dist.all_gather_object(values, value, group=control)
    return values


def _backend(name: str, device: str) -> str:
    if name != "auto":
        return name
    return "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"


LOST = ("connection", "timed out", "timeout", "gloo", "nccl", "peer", "socket", "broken pipe", "store")


def _is_lost_rank(error: RuntimeError) -> bool:
    """Return whether an error means a lost rank: gloo raises RuntimeError, NCCL and the store kinds of DistError."""
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in LOST)
