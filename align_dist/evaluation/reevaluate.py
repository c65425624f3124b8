"""Repeated evaluation of a trained run, on its own benchmark or on another one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from align_dist.assembly import Assembly, assemble
from align_dist.config import BenchmarkConfig, DistributedConfig, RunConfig
from align_dist.data.split_checks import copies_in_other_benchmark
from align_dist.errors import CheckpointError, ConfigError
from align_dist.evaluation.evaluate import evaluate_run
from align_dist.runs.details import write_details
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import write_rows


def reevaluate_run(path: Path, other: BenchmarkConfig | None, overrides: Sequence[str] = ()) -> Path:
    """Rewrite the run's results.jsonl, or write results-<benchmark>-<fingerprint>.jsonl for another benchmark.

    overrides: of evaluation.* alone; results.jsonl, config.yaml and the `done` mark then change together. The other
    benchmark must have the run's classes, in the same order; all of its domains are targets. Raises CheckpointError for
    a run that is not trained to its end or that another process trains, ConfigError for other classes.
    """
    folder = RunFolder(path)
    config = folder.config(overrides)
    name_id = path.resolve().name.rpartition("-")[2]
    if name_id != config.identity:
        _print_line(
            f"warning: {path}: the id in the folder's name, {name_id}, is not the config's, {config.identity}: another "
            "version trained the run, or the folder was renamed; keys missing in config.yaml take their defaults"
        )
    # Runs of older code tell by their results alone that they are trained.
    if folder.trained_steps() is None and not folder.is_finished:
        raise CheckpointError(f"{path}: not trained to its end; run the same `align-dist train` command again first")
    with folder.locked():
        # One process evaluates the run, whatever engine trained it.
        run = assemble(config.model_copy(update={"distributed": DistributedConfig(engine="plain")}))
        return _on_own_benchmark(run, folder, config) if other is None else _on_another(run, folder, other)


def _on_own_benchmark(run: Assembly, folder: RunFolder, config: RunConfig) -> Path:
    rows, details = evaluate_run(run, folder, _print_line)
    folder.describe(config)
    write_details(folder.details, details)
    folder.write_results(rows)
    return folder.results


def _on_another(run: Assembly, folder: RunFolder, other: BenchmarkConfig) -> Path:
    from align_dist.evaluation.other_benchmark import on_other_benchmark

    other_run = on_other_benchmark(run, other)
    if other_run.manifest.classes != run.manifest.classes:
        raise ConfigError(
            f"{other.name}: has the classes {', '.join(other_run.manifest.classes)}, not the run's "
            f"({', '.join(run.manifest.classes)}); choose a benchmark with the same class folders"
        )
    for line in copies_in_other_benchmark(run.manifest, run.split, other_run.manifest):
        _print_line(f"warning: {line}")
    rows, _ = evaluate_run(other_run, folder, _print_line, with_details=False)
    # Everyone's own images are of the benchmark `folders`: the fingerprint tells them apart.
    destination = folder.path / f"results-{other.name}-{other_run.manifest.fingerprint[:8]}.jsonl"
    write_rows(destination, rows)
    return destination


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
