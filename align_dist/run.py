"""A run from its description to its `done` mark: assemble, train, evaluate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from align_dist.config import RunConfig
from align_dist.evaluation.evaluate import evaluate_run
from align_dist.training.assembly import assemble
from align_dist.training.loop import train
from align_dist.training.monitor import write_hyperparameters
from align_dist.training.run_folder import RunFolder
from align_dist.training.signals import leave_if_asked, noticing_signals


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def carry_out(config: RunConfig, say: Callable[[str], None] = _say) -> RunFolder:
    """Trains and evaluates a run from where its folder says it is. A finished run returns at once.

    Raises a UserError for whatever its description or its data make impossible, Preempted after a signal.
    """
    folder = RunFolder(config.folder)
    if folder.done.exists():
        say(f"{folder.path}: done already")
        return folder
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    run = assemble(config)
    folder.begin(config)
    with noticing_signals() as request:
        position = train(run, folder, request, say)
        rows = evaluate_run(run, folder, say, lambda: leave_if_asked(request, folder.path, position.step))
    write_hyperparameters(folder, config, _final_accuracies(rows))
    folder.write_results(rows)
    return folder


def _final_accuracies(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Accuracy by domain under source validation, the selection that peeks at nothing."""
    chosen = [row for row in rows if row["selection"] == "validation"]
    return {f"final/accuracy/{row['domain']}": row["metrics"]["accuracy"] for row in chosen}
