"""One rank's calls of every method of `Group`: `python tests/parallel/agreement.py FOLDER` writes FOLDER/RANK.pt."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from align_dist.config import DistributedConfig
from align_dist.errors import CheckpointError, ConfigError, UserError
from align_dist.parallel.connect import process_group
from align_dist.parallel.group import Group


def result_of(action: Callable[[], Any]) -> Any:
    """What it returned; of a UserError its type, its message, and whether every rank is known to raise it."""
    try:
        return action()
    except UserError as error:
        return [type(error).__name__, str(error), error.raised_on_all_ranks]


def fail(error: UserError) -> NoReturn:
    raise error


def saved_state() -> dict[str, Any]:
    layers = {"weight": torch.arange(6.0).view(2, 3), "half": torch.ones(3, dtype=torch.bfloat16)}
    return {"networks": layers, "step": 7, "names": ["a", "b"], "empty": {}}


def answers(group: Group) -> dict[str, Any]:
    rank, last = group.rank, group.world_size - 1
    calls: list[str] = []

    def noted(value: Any) -> Any:
        calls.append(f"{rank}")
        return value

    def mean(values: Tensor) -> list[Any]:
        returned = group.mean_(values)
        return [returned.tolist(), returned is values]

    return {
        "cores": group.cores,
        "is_first": group.is_first,
        "any": [group.any(flag) for flag in (False, True, rank == 0, rank == last)],
        "gather": group.gather({"rank": rank, "tensor": torch.full((2,), float(rank))}),
        "first": group.run_on_first(lambda: noted({"by": rank})),
        "calls": calls,
        "first fails": result_of(lambda: group.run_on_first(lambda: fail(CheckpointError(f"no file, says {rank}")))),
        "together": group.run_on_all(lambda: rank * 10),
        "last fails": result_of(lambda: group.run_on_all(lambda: fail(ConfigError("last")) if rank == last else rank)),
        "all fail": result_of(lambda: group.run_on_all(lambda: fail(ConfigError(f"rank {rank}")))),
        "read": group.broadcast_from_first(
            saved_state if rank == 0 else lambda: fail(ConfigError("only rank 0 reads"))
        ),
        "read none": group.broadcast_from_first(lambda: None),
        "read fails": result_of(
            lambda: group.broadcast_from_first(lambda: fail(CheckpointError(f"torn, says {rank}")))
        ),
        "mean_": mean(torch.tensor([rank, 2.0])),
        "still in step": group.gather(rank),
    }


if __name__ == "__main__":
    with process_group(DistributedConfig(timeout=60), "cpu") as joined:
        results = answers(joined)
        torch.save(results, Path(sys.argv[1]) / f"{joined.rank}.pt")
