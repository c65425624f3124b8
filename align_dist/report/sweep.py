"""Gains over ERM against one setting: a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from align_dist.errors import ConfigError
from align_dist.report.aggregate import Column, Line, lines_of, standard_error, values_of
from align_dist.report.render import MISSING, Table
from align_dist.report.rows import Run, finished_rows
from align_dist.runs.results import OUT_OF_DOMAIN
from align_dist.visual import GREY, PRINTED_INK, drawing, looks_of, new_figure, write_png

BASELINE = "erm"


class Point(NamedTuple):
    """A line of runs at one value of the setting: accuracy and gain over ERM's runs of the same seeds, in percent.

    A standard error is None for fewer than two seeds; gain is None where no seed has an ERM run.
    """

    value: float
    line: Line
    seeds: int
    accuracy: float
    accuracy_error: float | None
    gain: float | None
    gain_error: float | None


def sweep(runs: Sequence[Run], key: str, selection: str, metric: str = "accuracy") -> list[Point]:
    """The points of finished runs, by value and line, as means over the out-of-domain domains.

    key: dotted key of the runs' config.yaml. ERM runs without the key, which belongs to another method, count at every
    value. Raises ConfigError where another run has no number for the key, for runs of several tasks, and where no run
    has out-of-domain results; DataError for rows that must not be averaged (`aggregate.lines_of`).
    """
    by_value: dict[float, list[Run]] = {}
    silent_runs = [run for run in runs if run.finished and _is_independent(run, key)]
    for run in runs:
        if run.finished and run not in silent_runs:
            by_value.setdefault(_number(run, key), []).append(run)
    if len(by_value) == 1:
        raise ConfigError(
            f"report --against {key}: all runs have {next(iter(by_value)):g}; give runs that differ in it"
        )
    points = [
        point
        for value, value_runs in sorted(by_value.items())
        for point in _points(value, [*value_runs, *silent_runs], selection, metric)
    ]
    # A benchmark's setting that the table is over makes no other task.
    tasks = {
        point.line.group._replace(data="") if key.startswith("benchmark.") else point.line.group for point in points
    }
    if len(tasks) != 1:
        task_names = "; ".join(" ".join(filter(None, task)) for task in sorted(tasks)) or "none"
        raise ConfigError(
            f"report --against {key}: takes runs of one task with results on domains that were not trained on; "
            f"got: {task_names}; give the folders of one task"
        )
    return points


def sweep_table(points: Sequence[Point], key: str, selection: str) -> Table:
    """The table of a sweep, one row per point."""
    rows = tuple(
        (
            f"{point.value:g}",
            point.line.label,
            str(point.seeds),
            _number_text(point.accuracy, point.accuracy_error),
            MISSING if point.gain is None else _number_text(point.gain, point.gain_error, sign="+"),
        )
        for point in points
    )
    header = (key, "method", "n", "accuracy out of domain %", "gain over ERM, paired by seed")
    notes = ("mean ± standard error over seeds",)
    return Table(f"Gain over ERM against {key}, {selection} weights", header, rows, notes, names=2)


def draw_sweep(points: Sequence[Point], key: str, path: Path) -> None:
    """Write a PNG of the gains with standard errors: one line per method, with ERM as the line at zero."""
    by_label = _gains_by_label(points)
    looks = looks_of([*by_label])
    with drawing(PRINTED_INK):
        figure = new_figure(6.4, 4.0)
        axes = figure.subplots()
        axes.axhline(0, color=GREY, linewidth=0.8)
        for label, label_points in by_label.items():
            values, gains = [point.value for point in label_points], [point.gain or 0.0 for point in label_points]
            errors = [point.gain_error or 0.0 for point in label_points]
            color, dash, marker = looks[label]
            axes.errorbar(values, gains, errors, color=color, linestyle=dash, marker=marker, capsize=3, label=label)
        axes.set_xlabel(key)
        axes.set_ylabel("out of domain: points above ERM")
        axes.legend()
        write_png(figure, path)


def _is_independent(run: Run, key: str) -> bool:
    return run.label == BASELINE and key not in run.settings


def _number(run: Run, key: str) -> float:
    text = run.settings.get(key)
    try:
        return float(text or "")
    except ValueError:
        if text is None:
            remedy = "runs whose config.yaml has it; collected rows tell no more than a benchmark's settings"
            raise ConfigError(f"report --against {key}: {run.folder} does not tell it; give {remedy}") from None
        raise ConfigError(f"report --against {key}: {run.folder} has {text!r}; give a key with a number") from None


def _points(value: float, runs: Sequence[Run], selection: str, metric: str) -> list[Point]:
    lines = lines_of(finished_rows(runs), selection)
    column = Column("out of domain", metric, OUT_OF_DOMAIN)
    by_line = {line: values_of(lines, line, column) for line in lines}
    return [_point(value, line, by_line) for line, values in by_line.items() if values]


def _point(value: float, line: Line, by_line: Mapping[Line, Mapping[int, float]]) -> Point:
    accuracies = {seed: 100 * values for seed, values in by_line[line].items()}
    baseline = by_line.get(Line(line.group, BASELINE, ""), {})
    gains = [] if line.method == BASELINE else [a - 100 * baseline[s] for s, a in accuracies.items() if s in baseline]
    values = list(accuracies.values())
    gain = fmean(gains) if gains else None
    return Point(value, line, len(values), fmean(values), standard_error(values), gain, standard_error(gains))


def _gains_by_label(points: Sequence[Point]) -> dict[str, list[Point]]:
    by_label: dict[str, list[Point]] = {}
    for point in points:
        if point.gain is not None:
            by_label.setdefault(point.line.label, []).append(point)
    return by_label


def _number_text(value: float, error: float | None, sign: str = "") -> str:
    return f"{value:{sign}.1f}" + ("" if error is None else f" ± {error:.1f}")
