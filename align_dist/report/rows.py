"""Runs of a report: their status and their rows of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align_dist.runs.folder import RunFolder, find_run_folders
from align_dist.runs.results import Row, read_rows
from align_dist.runs.status import State, Status, status_of


@dataclass(frozen=True)
class Run:
    """A run's folder, status and rows of results."""

    folder: Path
    status: Status
    rows: tuple[Row, ...]

    @property
    def finished(self) -> bool:
        """Whether the run has finished, with all its rows."""
        return self.status.state is State.FINISHED

    @property
    def label(self) -> str:
        """The method of the run's rows, or the folder's name without rows."""
        return self.rows[0].label if self.rows else self.folder.name


def read_runs(places: Sequence[Path]) -> list[Run]:
    """All runs among and below the folders, including unfinished ones. Raises DataError for an invalid line."""
    return [read_run(folder) for folder in find_run_folders(places)]


def read_run(path: Path) -> Run:
    """The run in a folder; without results it has no rows. Raises DataError for an invalid line."""
    folder = RunFolder(path)
    rows = read_rows(folder.results) if folder.results.exists() else []
    return Run(path, status_of(folder), tuple(rows))


def finished_rows(runs: Sequence[Run]) -> list[Row]:
    """The rows of the finished runs."""
    return [row for run in runs if run.finished for row in run.rows]


def unfinished(runs: Sequence[Run]) -> list[Run]:
    """The unfinished runs, which are listed by name and left out of averages."""
    return [run for run in runs if not run.finished]
