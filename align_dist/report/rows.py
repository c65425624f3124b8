"""Runs as a report sees them: how they stand, and the rows of their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align_dist.runs.folder import RunFolder, find_run_folders
from align_dist.runs.results import Row, read_rows
from align_dist.runs.status import State, Status, status_of


@dataclass(frozen=True)
class Run:
    """A run's folder, how the run stands, and its rows."""

    folder: Path
    status: Status
    rows: tuple[Row, ...]

    @property
    def finished(self) -> bool:
        """Whether the rows are all that the run was to be measured for."""
        return self.status.state is State.FINISHED

    @property
    def label(self) -> str:
        """The method of its rows, or the folder's name while there are none."""
        return self.rows[0].label if self.rows else self.folder.name


def read_runs(places: Sequence[Path]) -> list[Run]:
    """All runs among and below the places, unfinished ones included. Raises DataError for a bad line."""
    return [read_run(folder) for folder in find_run_folders(places)]


def read_run(path: Path) -> Run:
    """One run folder; a run that has no results yet has no rows. Raises DataError for a bad line."""
    folder = RunFolder(path)
    rows = read_rows(folder.results) if folder.results.exists() else []
    return Run(path, status_of(folder), tuple(rows))


def finished_rows(runs: Sequence[Run]) -> list[Row]:
    """The rows of the runs that finished."""
    return [row for run in runs if run.finished for row in run.rows]


def unfinished(runs: Sequence[Run]) -> list[Run]:
    """The runs that have not finished: they belong in no average and are listed by name instead."""
    return [run for run in runs if not run.finished]
