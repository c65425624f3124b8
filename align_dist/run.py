"""A run from its description to its `done` mark: assemble, train, evaluate."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from align_dist.config import RunConfig
from align_dist.errors import UserError
from align_dist.evaluation.evaluate import evaluate_run
from align_dist.parallel.connect import connected
from align_dist.parallel.group import Group
from align_dist.training.assembly import assemble, choose_device
from align_dist.training.loop import train
from align_dist.training.monitor import write_hyperparameters
from align_dist.training.run_folder import RunFolder
from align_dist.training.signals import deadline_of, leave_if_asked, noticing_signals


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def carry_out(config: RunConfig, say: Callable[[str], None] = _say) -> RunFolder:
    """Trains and evaluates a run from where its folder says it is, on the ranks that the environment tells of.

    A finished run returns at once. Raises a UserError for whatever its description, its data or its ranks make
    impossible, Preempted after a signal.
    """
    folder = RunFolder(config.folder)
    with connected(config.distributed, choose_device(config.training.device).type) as group:
        try:
            _carry_out(config, folder, group, say if group.is_first else _say_nothing)
        except UserError as error:
            error.told_elsewhere = error.agreed and not group.is_first
            raise
    return folder


def _carry_out(config: RunConfig, folder: RunFolder, group: Group, say: Callable[[str], None]) -> None:
    if group.first(folder.done.exists):
        say(f"{folder.path}: done already")
        return
    threads = config.training.threads or (group.cores if group.world_size > 1 else 0)
    if threads:
        torch.set_num_threads(threads)
    run = assemble(config, group)
    group.first(lambda: folder.begin(config, group.world_size))
    with noticing_signals(deadline_of(os.environ, config.distributed.grace)) as request:
        position = train(run, folder, request, say)

        def check() -> None:
            if request.agreed(group):
                leave_if_asked(request, folder.path, position.step)

        rows = evaluate_run(run, folder, say, check)
    group.first(lambda: _conclude(config, folder, rows))


def _conclude(config: RunConfig, folder: RunFolder, rows: list[dict[str, Any]]) -> None:
    write_hyperparameters(folder, config, _final_accuracies(rows))
    folder.write_results(rows)


def _say_nothing(_line: str) -> None:
    """What ranks other than the first say."""


def _final_accuracies(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Accuracy by domain under source validation, the selection that peeks at nothing."""
    chosen = [row for row in rows if row["selection"] == "validation"]
    return {f"final/accuracy/{row['domain']}": row["metrics"]["accuracy"] for row in chosen}
