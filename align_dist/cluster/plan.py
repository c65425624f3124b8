"""What a submission would do: cells, the sbatch text, hours, disk, and what this cluster would do to it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from align_dist.cluster.estimate import classes_of, existing, run_bytes
from align_dist.cluster.grid import Cell
from align_dist.cluster.preemption import preemption_findings
from align_dist.cluster.resources import MOST_IN_ARRAY, Resources, jobs_folder, submission_text
from align_dist.cluster.states import CellStatus
from align_dist.cluster.submission import job_name, statuses, to_submit
from align_dist.data.beton import is_written
from align_dist.diagnosis import Diagnosis
from align_dist.runs.warmup import cost_of


def print_plan(cells: Sequence[Cell], resources: Resources, cluster: str, retry: bool) -> None:
    """Prints it all and submits nothing."""
    found = statuses(cells)
    chosen = to_submit(cells, found, retry)
    for cell, status in zip(cells, found, strict=True):
        print(_line(cell, status, cell in chosen))
    print(f"\n{len(chosen)} of {len(cells)} cells would be submitted to {cluster}")
    if not chosen:
        return
    print(_costs(chosen, resources))
    if chosen[0].share_warmup and is_written(chosen[0].config.benchmark.beton):
        print(cost_of([cell.config for cell in chosen]))
    if cluster == "slurm":
        _print_submissions(chosen, resources)


def _print_submissions(chosen: Sequence[Cell], resources: Resources) -> None:
    config = chosen[0].config
    folder = jobs_folder(config.runs, config.experiment)
    for start in range(0, len(chosen), MOST_IN_ARRAY):
        count = len(chosen[start : start + MOST_IN_ARRAY])
        print(f"\nsbatch of {count} jobs:\n{submission_text(folder, job_name(chosen), resources, count)}")
    for finding in preemption_findings(config, resources.minutes, resources.partition):
        print(finding)
    if shutil.which("srun") is None:
        problem = "srun: not found, what this cluster would do to the jobs is unknown"
        print(Diagnosis("note", problem, "ask a login node"))


def _line(cell: Cell, status: CellStatus, submitted: bool) -> str:
    return f"{'submit' if submitted else 'leave':7}{cell.name}: {status}  {cell.config.folder}"


def _costs(cells: Sequence[Cell], resources: Resources) -> str:
    config = cells[0].config
    size = sum(run_bytes(cell.config, classes_of(config)) for cell in cells) / 2**30
    place = existing(config.runs)
    free = shutil.disk_usage(place).free / 2**30
    return f"{_hours(len(cells), resources)}; {size:.2f} GiB of weights and checkpoints, {free:.1f} GiB free at {place}"


def _hours(jobs: int, resources: Resources) -> str:
    """The most that the jobs can take: of GPUs where they ask for any, of CPUs where not."""
    kind, count = ("GPU", resources.gpus) if resources.gpus else ("CPU", resources.cpus)
    amount = jobs * count * resources.minutes / 60
    return f"at most {amount:,.1f} {kind}-hours ({jobs} jobs × {count} {kind}s × {resources.minutes} min)"
