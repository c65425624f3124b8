"""The plan of a submission: cells, sbatch text, hours, disk space, and diagnoses of the cluster's settings."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from align_dist.cluster.estimate import classes_of, existing_ancestor, run_bytes
from align_dist.cluster.grid import Cell, cost_lines
from align_dist.cluster.preemption import preemption_diagnoses
from align_dist.cluster.resources import MOST_IN_ARRAY, Resources, jobs_folder, submission_text
from align_dist.cluster.states import CellStatus
from align_dist.cluster.submission import job_name, statuses, to_submit
from align_dist.data.beton import is_written
from align_dist.diagnosis import Diagnosis


def print_plan(cells: Sequence[Cell], resources: Resources, cluster: str, retry: bool) -> None:
    """Print the plan, and submit nothing."""
    states = statuses(cells)
    pending = to_submit(cells, states, retry)
    for cell, status in zip(cells, states, strict=True):
        print(_line(cell, status, cell in pending))
    print(f"\n{len(pending)} of {len(cells)} cells would be submitted to {cluster}")
    if not pending:
        return
    print(_costs(pending, resources))
    for beton in dict.fromkeys(cell.config.benchmark.beton for cell in pending):
        if not is_written(beton):
            remedy = "write it first, by --prepare or `align-dist data prepare`"
            print(Diagnosis("note", f"{beton}: not there, and every job would fail without it", remedy))
    for line in cost_lines(pending):
        print(line)
    if cluster == "slurm":
        _print_submissions(pending, resources)


def _print_submissions(cells: Sequence[Cell], resources: Resources) -> None:
    config = cells[0].config
    folder = jobs_folder(config.runs, config.experiment)
    for start in range(0, len(cells), MOST_IN_ARRAY):
        count = len(cells[start : start + MOST_IN_ARRAY])
        print(f"\nsbatch of {count} jobs:\n{submission_text(folder, job_name(cells), resources, count)}")
    for diagnosis in preemption_diagnoses(config, resources.minutes, resources.partition):
        print(diagnosis)
    if shutil.which("srun") is None:
        problem = "srun: not found, so the settings of the cluster are unknown"
        print(Diagnosis("note", problem, "run this on a login node"))


def _line(cell: Cell, status: CellStatus, submitted: bool) -> str:
    return f"{'submit' if submitted else 'leave':7}{cell.name}: {status}  {cell.config.folder}"


def _costs(cells: Sequence[Cell], resources: Resources) -> str:
    config = cells[0].config
    size = sum(run_bytes(cell.config, classes_of(config)) for cell in cells) / 2**30
    folder = existing_ancestor(config.runs)
    free = shutil.disk_usage(folder).free / 2**30
    return (
        f"{_hours(len(cells), resources)}; {size:.2f} GiB of weights and checkpoints, {free:.1f} GiB free at {folder}"
    )


def _hours(jobs: int, resources: Resources) -> str:
    """An upper bound on the jobs' hours: GPU hours where the jobs ask for GPUs, else CPU hours."""
    kind, count = ("GPU", resources.gpus) if resources.gpus else ("CPU", resources.cpus)
    amount = jobs * count * resources.minutes / 60
    return f"at most {amount:,.1f} {kind}-hours ({jobs} jobs × {count} {kind}s × {resources.minutes} min)"
