"""The rows of results: one line of a run's results.jsonl is one run, checkpoint and domain."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from align_dist.config import EvaluationConfig
from align_dist.errors import DataError

RESULTS, CONFIG, DONE, ENVIRONMENT = "results.jsonl", "config.yaml", "done", "environment.json"
IN_DOMAIN, OUT_OF_DOMAIN = "in_domain", "out_of_domain"

_TEXTS = ("run", "benchmark", "method", "backbone", "protocol", "selection", "domain", "role")
_NUMBERS = ("seed", "step", "images")


class Group(NamedTuple):
    """What two results must share to be comparable. evaluation: its settings that are not the default ones."""

    benchmark: str
    backbone: str
    protocol: str
    source: str
    target: str
    evaluation: str = ""


@dataclass(frozen=True)
class Row:
    """One domain's measurements of one selected checkpoint of one run.

    theory_masks: which masks the lemmas were measured with; empty where they were not.
    """

    run: str
    experiment: str
    group: Group
    method: str
    variant: str
    seed: int
    selection: str
    step: int
    domain: str
    role: str
    images: int
    metrics: Mapping[str, float]
    theory_masks: str = ""

    @property
    def label(self) -> str:
        """The method as tables name it, with the variant where there is one."""
        return f"{self.method} ({self.variant})" if self.variant else self.method


@dataclass(frozen=True)
class Run:
    """A run's folder, whether it finished, and its rows."""

    folder: Path
    done: bool
    rows: tuple[Row, ...]

    @property
    def label(self) -> str:
        """The method of its rows, or the folder's name while there are none."""
        return self.rows[0].label if self.rows else self.folder.name


def find_run_folders(places: Sequence[Path]) -> list[Path]:
    """The run folders among and below the given places, each once, in order of their paths.

    A run folder holds results.jsonl or config.yaml. Raises DataError for a place that does not exist or
    holds no run.
    """
    found: set[Path] = set()
    for place in places:
        if not place.is_dir():
            raise DataError(f"{place}: expected a run folder or a folder of runs; check the path")
        below = {file.parent.resolve() for name in (RESULTS, CONFIG) for file in place.rglob(name)}
        if not below:
            raise DataError(f"{place}: holds no {RESULTS}; train a run into it or name another folder")
        found |= below
    return sorted(found)


def read_runs(places: Sequence[Path]) -> list[Run]:
    """All runs among and below the places, unfinished ones included. Raises DataError for a bad line."""
    return [read_run(folder) for folder in find_run_folders(places)]


def read_run(folder: Path) -> Run:
    """One run folder; a run that has no results yet has no rows. Raises DataError for a bad line."""
    results = folder / RESULTS
    return Run(folder, (folder / DONE).exists(), tuple(read_rows(results)) if results.exists() else ())


def read_rows(path: Path) -> list[Row]:
    """The rows of one results.jsonl. Raises DataError naming file and line for one that is not a row."""
    rows = []
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read, {error.strerror}; check its permissions") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(parse_row(json.loads(line)))
        except ValueError as error:
            reason = "not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            message = f"{path} line {number}: {reason}; expected one result a line, evaluate the run again"
            raise DataError(message) from error
    return rows


def finished_rows(runs: Sequence[Run]) -> list[Row]:
    """The rows of the runs that finished."""
    return [row for run in runs if run.done for row in run.rows]


def unfinished(runs: Sequence[Run]) -> list[Run]:
    """The runs without a done mark: they belong in no average and are listed by name instead."""
    return [run for run in runs if not run.done]


def parse_row(record: Any) -> Row:
    """A row from a decoded JSON object. Raises ValueError saying what is wrong with it."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    for keys, kind, name in ((_TEXTS, str, "text"), (_NUMBERS, int, "a whole number")):
        for key in keys:
            if not isinstance(record.get(key), kind) or isinstance(record[key], bool):
                raise ValueError(f"{key!r} is missing or not {name}")
    if record["role"] not in (IN_DOMAIN, OUT_OF_DOMAIN):
        raise ValueError(f"'role' is {record['role']!r}, neither {IN_DOMAIN} nor {OUT_OF_DOMAIN}")
    kept = {key: record[key] for key in ("run", "method", "selection", "domain", "role", *_NUMBERS)}
    return Row(
        group=Group(
            record["benchmark"],
            record["backbone"],
            record["protocol"],
            _domains(record, "source"),
            _domains(record, "target"),
            _settings(record.get("evaluation")),
        ),
        experiment=str(record.get("experiment") or ""),
        variant=str(record.get("variant") or ""),
        metrics=_metrics(record.get("metrics")),
        theory_masks=str(record.get("theory_masks") or ""),
        **kept,
    )


def _domains(record: Mapping[str, Any], key: str) -> str:
    """A domain, or several as one text; empty for none."""
    value = record.get(key) or []
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key!r} is neither a domain nor a list of domains")
    return ", ".join(names)


def _settings(told: Any) -> str:
    """Those that differ from the defaults, as overrides are written; older rows tell none."""
    if told is None:
        return ""
    if not isinstance(told, dict):
        raise ValueError("'evaluation' is not an object")
    usual = EvaluationConfig().settings
    return " ".join(f"{key}={value}" for key, value in sorted(told.items()) if value != usual.get(key))


def _metrics(values: Any) -> dict[str, float]:
    """The metrics that have a value: null and non-finite ones count as not measured."""
    if not isinstance(values, dict):
        raise ValueError("'metrics' is missing or not an object")
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"metric {name!r} is not a number")
    return {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}
