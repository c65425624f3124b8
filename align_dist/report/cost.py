"""The cost of runs: time, speed, and waiting for data."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from align_dist.report.render import MISSING, Table
from align_dist.report.rows import Run
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import IMAGES_PER_SECOND, WAITING_FOR_DATA, scalars_of
from align_dist.runs.provenance import read_starts

NOTE = (
    "Medians over a run's steps, means over runs. Minutes: steps times images a step over images a second, of training "
    "alone. Only runs alone on the same machine can be compared."
)


def cost_table(runs: Sequence[Run]) -> Table:
    """One line per method: runs, minutes of training, images a second, share of time waiting for data, and ranks."""
    by_label: dict[str, list[Run]] = {}
    for run in runs:
        by_label.setdefault(run.label, []).append(run)
    rows = tuple(_line(label, label_runs) for label, label_runs in by_label.items())
    header = ("method", "runs", "minutes", "images/s", "waiting for data %", "ranks")
    return Table("Cost", header, rows, (NOTE,))


def _line(label: str, runs: Sequence[Run]) -> tuple[str, ...]:
    minutes, speeds, waits, ranks = [], [], [], set[str]()
    for run in runs:
        scalars, starts = scalars_of(run.records), read_starts(RunFolder(run.folder).environment)
        speed, wait = scalars.get(IMAGES_PER_SECOND), scalars.get(WAITING_FOR_DATA)
        ranks |= {str(start["ranks"]) for start in starts[-1:] if "ranks" in start}
        if not speed or not wait:
            continue
        speeds.append(median(speed.values()))
        waits.append(100 * median(wait.values()))
        # A run that began with a shared warm-up trained only the rest itself.
        steps = max(speed) - min(speed) + _interval(list(speed))
        minutes.append(steps * float(run.settings.get("data.batch_size", "nan")) / speeds[-1] / 60)
    means = [f"{fmean(values):.1f}" if values else MISSING for values in (minutes, speeds, waits)]
    return (label, str(len(runs)), *means, ", ".join(sorted(ranks)) or MISSING)


def _interval(steps: Sequence[int]) -> int:
    """The number of steps before the first record."""
    return steps[1] - steps[0] if len(steps) > 1 else steps[0]
