"""The ranks of a run as one: what they agree on, and how they fail together.

Host decisions (stop, save, an error) go over a group of their own that uses gloo, so that they never wait for
an accelerator. With one rank nothing here communicates.
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
from align_dist.files import disk_errors_in_words
from align_dist.machine import available_cores
from align_dist.parallel.collectives import concatenate_over_ranks, sum_over_ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """All methods are collective: every rank calls them, in the same order. cores: this rank's own."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    cores: int = field(default_factory=available_cores)
    control: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that writes."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""
        return self.start_any(flag)()

    def start_any(self, flag: bool) -> Callable[[], bool]:
        """`any`, begun now and read by calling what is returned; with one rank it knows at once."""
        if self.world_size == 1:
            return lambda: flag
        told = torch.tensor(int(flag))
        work = dist.all_reduce(told, dist.ReduceOp.MAX, group=self.control, async_op=True)

        def read() -> bool:
            work.wait()
            return bool(told)

        return read

    def gather(self, value: T) -> list[T]:
        """Each rank's value, by rank; tensors and plain values on the host."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def first(self, action: Callable[[], T]) -> T:
        """What `action` returned on rank 0, on every rank; a UserError that it raised there, on every rank."""
        if self.world_size == 1:
            return action()
        told: list[tuple[T | None, UserError | None]] = [_outcome(action) if self.is_first else (None, None)]
        dist.broadcast_object_list(told, src=0, group=self.control)
        return _value_of(told[0])

    def together(self, action: Callable[[], T]) -> T:
        """Runs `action` on every rank. A UserError of any rank is raised on all of them, the lowest rank's."""
        if self.world_size == 1:
            return action()
        outcome = _outcome(action)
        errors = [error for _, error in self.gather((None, outcome[1])) if error is not None]
        return _value_of((outcome[0], errors[0] if errors else None))

    def read(self, action: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
        """As `first`, for tensors and plain values on the host; unpickled under torch's restricted loader."""
        if self.world_size == 1:
            return action()
        state, error = _outcome(action) if self.is_first else (None, None)
        self.first(lambda: _value_of((None, error)))
        buffer = io.BytesIO()
        if self.is_first:
            torch.save(state, buffer)
        size = torch.tensor(buffer.getbuffer().nbytes)
        dist.broadcast(size, src=0, group=self.control)
        payload = torch.frombuffer(bytearray(buffer.getvalue() or bytes(int(size))), dtype=torch.uint8)
        dist.broadcast(payload, src=0, group=self.control)
        received: dict[str, Any] | None = torch.load(io.BytesIO(payload.numpy().tobytes()), weights_only=True)
        return received

    def concatenate(self, values: Tensor) -> Tensor:
        """(R · B, ...) from each rank's (B, ...), in the order of ranks, on the device; gradients pass through it."""
        return concatenate_over_ranks(values) if self.world_size > 1 else values

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, on the device; gradients pass through it."""
        return sum_over_ranks(values) if self.world_size > 1 else values

    def mean_(self, values: Tensor) -> Tensor:
        """The mean over ranks, in place, on the device."""
        if self.world_size > 1:
            dist.all_reduce(values)
            values /= self.world_size
        return values


def _outcome(action: Callable[[], T]) -> tuple[T | None, UserError | None]:
    try:
        with disk_errors_in_words():
            return action(), None
    except UserError as error:
        return None, error


def _value_of(outcome: tuple[T | None, UserError | None]) -> T:
    value, error = outcome
    if error is not None:
        error.agreed = True
        raise error
    return cast(T, value)
