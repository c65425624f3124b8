"""What a submission would do: cells, the sbatch text, hours, disk, and what this cluster would do to it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from align_dist.cluster.estimate import run_bytes
from align_dist.cluster.grid import Cell
from align_dist.cluster.resources import MOST_IN_ARRAY, Resources, jobs_folder, slurm_executor, submission_text
from align_dist.cluster.states import CellStatus
from align_dist.cluster.submission import job_name, statuses, to_submit
from align_dist.cluster.survival import survival_findings
from align_dist.data.beton import verify_beton


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
    if cluster == "slurm":
        folder = jobs_folder(chosen[0].config.runs, chosen[0].config.experiment)
        executor = slurm_executor(folder, job_name(chosen), resources)
        for start in range(0, len(chosen), MOST_IN_ARRAY):
            count = len(chosen[start : start + MOST_IN_ARRAY])
            print(f"\nsbatch of {count} jobs:\n{submission_text(executor, count)}")
        for finding in survival_findings(chosen[0].config, resources.minutes, resources.partition):
            print(finding)


def _line(cell: Cell, status: CellStatus, submitted: bool) -> str:
    return f"{'submit' if submitted else 'leave':7}{cell.name}: {status}  {cell.config.folder}"


def _costs(cells: Sequence[Cell], resources: Resources) -> str:
    config = cells[0].config
    hours = len(cells) * resources.minutes / 60
    devices = resources.nodes * resources.gpus_per_node
    amount, unit = (hours * devices, "GPU-hours") if devices else (hours * resources.tasks, "task-hours")
    classes = len(verify_beton(config.benchmark.beton, quick=True).classes)
    size = sum(run_bytes(cell.config, classes) for cell in cells) / 2**30
    existing = next(folder for folder in [config.runs.absolute(), *config.runs.absolute().parents] if folder.exists())
    free = shutil.disk_usage(existing).free / 2**30
    limit = f"{len(cells)} jobs × {resources.nodes} nodes × {resources.tasks_per_node} tasks × {resources.minutes} min"
    disk = f"{size:.2f} GiB of weights and checkpoints, {free:.1f} GiB free at {existing}"
    return f"at most {amount:,.1f} {unit} ({limit}); {disk}"
