"""`align-dist status`: the status of runs, read from their folders alone."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from align_dist.report.live import Line, print_table, watch
from align_dist.runs.folder import RunFolder, find_run_folders
from align_dist.runs.progress import progress_of
from align_dist.runs.status import State, status_of

EVERY = 2.0  # seconds


def show_status(places: Sequence[Path], repeat: bool = False, as_json: bool = False) -> None:
    """Print one row per run among and below the folders, or one JSON line. repeat: print again until no run is running.

    Raises CheckpointError for a folder without a run.
    """
    if repeat:
        watch(lambda: [line for _, line in _lines_of(places)], EVERY)
    elif as_json:
        for folder, line in _lines_of(places):
            print(_json(folder, line))
    else:
        print_table([line for _, line in _lines_of(places)])


def _lines_of(places: Sequence[Path]) -> list[tuple[Path, Line]]:
    """Folder and line of each run, sorted by path. A run's name is its path below the runs' common folder."""
    folders = find_run_folders(places)
    common = os.path.commonpath([folder.parent for folder in folders])
    return [
        (folder, Line({"run": os.path.relpath(folder, common)}, status_of(RunFolder(folder)), progress_of(folder)))
        for folder in folders
    ]


def _json(folder: Path, line: Line) -> str:
    progress = line.progress
    values = {
        "folder": str(folder),
        "state": str(line.status.state),
        "reason": line.status.reason,
        "step": progress.step,
        "epoch": progress.epoch,
        "length": progress.length,
        "images_per_second": progress.images_per_second,
        "seconds_left": progress.seconds_left if line.status.state is State.RUNNING else None,
        "validation_accuracy": progress.accuracy,
        "validation_history": list(progress.accuracies.items()),
    }
    return json.dumps(values)
