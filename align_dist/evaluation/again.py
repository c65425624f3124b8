"""Measures a trained run again, on its own benchmark or on another one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from align_dist.assembly import assemble
from align_dist.config import BenchmarkConfig, DistributedConfig
from align_dist.data.task_checks import copies_elsewhere
from align_dist.errors import CheckpointError, ConfigError
from align_dist.evaluation.evaluate import evaluate_run
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import write_rows


def evaluate_again(path: Path, other: BenchmarkConfig | None, overrides: Sequence[str] = ()) -> Path:
    """Rewrites the run's results.jsonl, or writes results-<benchmark>.jsonl for another benchmark.

    overrides: of evaluation.* alone; with them results.jsonl, config.yaml and the `done` mark change together.
    The other benchmark must have the run's classes, in the same order; all of its domains are targets.
    Raises CheckpointError for a folder without trained weights, ConfigError for other classes.
    """
    folder = RunFolder(path)
    config = folder.config(overrides)
    made_as = path.resolve().name.rpartition("-")[2]
    if made_as != config.identity:
        _say(
            f"warning: {path}: the id in its name, {made_as}, is not its description's, {config.identity}: another "
            "version trained it, or it was renamed; keys that its config.yaml lacks are today's defaults"
        )
    if not any(folder.selected.glob("*.pt")):
        raise CheckpointError(f"{path}: no trained weights in selected/; let training finish first")
    # Whatever trained it, one process measures it.
    run = assemble(config.model_copy(update={"distributed": DistributedConfig(engine="plain")}))
    if other is None:
        rows = evaluate_run(run, folder, _say)
        folder.describe(config)
        folder.write_results(rows)
        return folder.results
    from align_dist.evaluation.elsewhere import on_other_benchmark

    elsewhere = on_other_benchmark(run, other)
    if elsewhere.manifest.classes != run.manifest.classes:
        raise ConfigError(
            f"{other.name}: its classes ({', '.join(elsewhere.manifest.classes)}) are not the run's "
            f"({', '.join(run.manifest.classes)}); choose a benchmark with the same class folders"
        )
    for line in copies_elsewhere(run.manifest, run.split, elsewhere.manifest):
        _say(f"warning: {line}")
    rows = evaluate_run(elsewhere, folder, _say)
    destination = path / f"results-{other.name}.jsonl"
    write_rows(destination, rows)
    return destination


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
