"""Runs of a report: their status and their rows of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from align_dist.runs.folder import RunFolder, find_run_folders
from align_dist.runs.metrics import Record, read_metrics
from align_dist.runs.results import Row, read_rows
from align_dist.runs.status import State, Status, status_of

# Suffix of a file of rows, in the place of run folders.
ROWS = ".jsonl"


@dataclass(frozen=True)
class Run:
    """A run's folder, status and rows of results."""

    folder: Path
    status: Status
    rows: tuple[Row, ...]

    @property
    def finished(self) -> bool:
        """Return whether the run has finished, with all its rows."""
        return self.status.state is State.FINISHED

    @cached_property
    def settings(self) -> dict[str, str]:
        """Dotted key -> value as text, of config.yaml; of a run without its folder, what its rows tell."""
        of_rows = dict(self.rows[0].benchmark_settings) if self.rows else {}
        return _read_settings(RunFolder(self.folder).description) or _flat(of_rows, "benchmark.")

    @cached_property
    def records(self) -> list[Record]:
        """The lines of metrics.jsonl."""
        return read_metrics(RunFolder(self.folder).metrics)

    @property
    def label(self) -> str:
        """The method of the run's rows, or the folder's name without rows."""
        return self.rows[0].label if self.rows else self.folder.name


def read_runs(places: Sequence[Path]) -> list[Run]:
    """All runs among and below the folders, including unfinished ones, and the runs of files of rows.

    Raises CheckpointError where there is none, DataError for an invalid line.
    """
    files = [place for place in places if place.suffix == ROWS and place.is_file()]
    folders = [place for place in places if place not in files]
    runs = [read_run(folder) for folder in find_run_folders(folders)]
    return [*runs, *(run for file in files for run in runs_in(file))]


def runs_in(path: Path) -> list[Run]:
    """The runs of a file of collected rows, such as those of configs/results, without their folders."""
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in read_rows(path):
        rows.setdefault((row.experiment, row.run), []).append(row)
    finished = Status(State.FINISHED, "")
    return [Run(path / experiment / name, finished, tuple(of_run)) for (experiment, name), of_run in rows.items()]


def read_run(path: Path) -> Run:
    """The run in a folder; without results it has no rows. Raises DataError for an invalid line."""
    folder = RunFolder(path)
    rows = read_rows(folder.results) if folder.results.exists() else []
    # A run that is measured again keeps its results until the new ones are there.
    status = Status(State.FINISHED, "") if folder.is_finished else status_of(folder)
    return Run(path, status, tuple(rows))


def finished_rows(runs: Sequence[Run]) -> list[Row]:
    """The rows of the finished runs."""
    return [row for run in runs if run.finished for row in run.rows]


def unfinished(runs: Sequence[Run]) -> list[Run]:
    """The unfinished runs, which are listed by name and left out of averages."""
    return [run for run in runs if not run.finished]


def _read_settings(path: Path) -> dict[str, str]:
    """Dotted key -> value as text; empty for a missing file or a file that is not a YAML mapping."""
    from yaml import YAMLError, safe_load

    try:
        content = safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return {}
    return _flat(content) if isinstance(content, dict) else {}


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: str(value)})
    return flat
