"""The process group of a run's ranks: shared decisions and shared errors.

Host decisions (stop, save, an error) use a separate gloo group, so that a decision never waits for an accelerator. With
one rank nothing here communicates.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from align_dist.errors import UserError
from align_dist.files import storage_errors
from align_dist.machine import available_cores
from align_dist.parallel.collectives import concatenate_over_ranks, sum_over_ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """A rank's view of the group. All methods are collective: every rank calls them in the same order. cores: number of
    cores of this rank. control: the gloo group of host decisions, None for one rank.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    cores: int = field(default_factory=available_cores)
    control: Any = None

    @property
    def is_first(self) -> bool:
        """Return whether this rank is rank 0, the only one that writes files."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on at least one rank."""
        return self.start_any(flag)()

    def start_any(self, flag: bool) -> Callable[[], bool]:
        """Start `any` without waiting; the returned function waits for the result."""
        if self.world_size == 1:
            return lambda: flag
        flag_tensor = torch.tensor(int(flag))
        work = dist.all_reduce(flag_tensor, dist.ReduceOp.MAX, group=self.control, async_op=True)

        def read() -> bool:
            work.wait()
            return bool(flag_tensor)

        return read

    def gather(self, value: T) -> list[T]:
        """Values of all ranks, by rank: tensors and plain values on the host."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def run_on_first(self, action: Callable[[], T]) -> T:
        """Run `action` on rank 0, and return its result, or raise its UserError, on every rank."""
        if self.world_size == 1:
            return action()
        outcomes: list[tuple[T | None, UserError | None]] = [_outcome(action) if self.is_first else (None, None)]
        dist.broadcast_object_list(outcomes, src=0, group=self.control)
        return _value_of(outcomes[0])

    def run_on_all(self, action: Callable[[], T]) -> T:
        """Run `action` on every rank. A UserError on any rank is raised on all ranks, that of the lowest rank first."""
        if self.world_size == 1:
            return action()
        outcome = _outcome(action)
        errors = [error for _, error in self.gather((None, outcome[1])) if error is not None]
        return _value_of((outcome[0], errors[0] if errors else None))

    def broadcast_from_first(self, action: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
        """Like `run_on_first`, for tensors and plain values on the host, loaded by torch's restricted unpickler."""
        if self.world_size == 1:
            return action()
        state, error = _outcome(action) if self.is_first else (None, None)
        self.run_on_first(lambda: _value_of((None, error)))
        buffer = io.BytesIO()
        if self.is_first:
            torch.save(state, buffer)
        size = torch.tensor(buffer.getbuffer().nbytes)
        dist.broadcast(size, src=0, group=self.control)
        payload = torch.frombuffer(bytearray(buffer.getvalue() or bytes(int(size))), dtype=torch.uint8)
        dist.broadcast(payload, src=0, group=self.control)
        loaded: dict[str, Any] | None = torch.load(io.BytesIO(payload.numpy().tobytes()), weights_only=True)
        return loaded

    def concatenate(self, values: Tensor) -> Tensor:
        """Concatenate each rank's (B, ...) to (R · B, ...), in the order of ranks, on the device; differentiable."""
        return concatenate_over_ranks(values) if self.world_size > 1 else values

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, on the device; differentiable."""
        return sum_over_ranks(values) if self.world_size > 1 else values

    def mean_(self, values: Tensor) -> Tensor:
        """The mean over ranks, in place, on the device."""
        if self.world_size > 1:
            dist.all_reduce(values)
            values /= self.world_size
        return values


def _outcome(action: Callable[[], T]) -> tuple[T | None, UserError | None]:
    try:
        with storage_errors():
            return action(), None
    except UserError as error:
        return None, error


def _value_of(outcome: tuple[T | None, UserError | None]) -> T:
    value, error = outcome
    if error is not None:
        error.raised_on_all_ranks = True
        raise error
    return cast(T, value)
