"""What a method gains over ERM as one setting changes: a table, and a figure of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from align_dist.errors import ConfigError
from align_dist.files import write_whole
from align_dist.report.aggregate import Column, Line, lines_of, standard_error, values_of
from align_dist.report.configurations import read_settings
from align_dist.report.curves import COLORS
from align_dist.report.render import MISSING, Table
from align_dist.report.rows import Run, finished_rows
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import OUT_OF_DOMAIN

BASELINE = "erm"


class Point(NamedTuple):
    """A line of runs at one value of the setting, in percent: accuracy, and the gain over ERM's runs of equal seeds.

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
    """The points of finished runs, by value and line; the mean over the domains that were not trained on.

    key: dotted, of the runs' config.yaml. ERM's runs that know nothing of a key, for it is another method's, count at
    every value. Raises ConfigError where another run has no number there, for runs of several tasks, and where none was
    measured on a domain that it was not trained on; DataError for rows that belong in no average
    (`aggregate.lines_of`).
    """
    by_value: dict[float, list[Run]] = {}
    everywhere = [run for run in runs if run.finished and _is_silent(run, key)]
    for run in runs:
        if run.finished and run not in everywhere:
            by_value.setdefault(_number(run, key), []).append(run)
    found = [
        point
        for value, some in sorted(by_value.items())
        for point in _points(value, [*some, *everywhere], selection, metric)
    ]
    tasks = {point.line.group for point in found}
    if len(tasks) != 1:
        told = "; ".join(" ".join(filter(None, task)) for task in sorted(tasks)) or "none"
        raise ConfigError(
            f"report --against {key}: takes runs of one task that were measured on domains they were not trained on; "
            f"these are: {told}; name the folders of one"
        )
    return found


def sweep_table(points: Sequence[Point], key: str, selection: str) -> Table:
    """A row a point."""
    rows = tuple(
        (
            f"{point.value:g}",
            point.line.label,
            str(point.seeds),
            _shown(point.accuracy, point.accuracy_error),
            MISSING if point.gain is None else _shown(point.gain, point.gain_error, sign="+"),
        )
        for point in points
    )
    header = (key, "method", "n", "accuracy out of domain %", "gain over ERM, paired by seed")
    notes = ("mean ± standard error over seeds",)
    return Table(f"Gain over ERM against {key}, {selection} weights", header, rows, notes, names=2)


def draw_sweep(points: Sequence[Point], key: str, path: Path) -> None:
    """Writes a PNG of the gains with their standard errors: a line a method, ERM the line at zero."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.axhline(0, color="#888888", linewidth=0.8)
    for number, (label, some) in enumerate(_gains_by_label(points).items()):
        values, gains = [point.value for point in some], [point.gain or 0.0 for point in some]
        errors = [point.gain_error or 0.0 for point in some]
        axes.errorbar(
            values, gains, errors, color=COLORS[number % len(COLORS)], marker="o", markersize=4, capsize=3, label=label
        )
    axes.set_xlabel(key)
    axes.set_ylabel("out of domain: points above ERM")
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    write_whole(path, lambda file: figure.savefig(file, format="png", metadata={"Software": None}))


def _is_silent(run: Run, key: str) -> bool:
    return run.label == BASELINE and key not in read_settings(RunFolder(run.folder).description)


def _number(run: Run, key: str) -> float:
    found = read_settings(RunFolder(run.folder).description).get(key)
    try:
        return float(found or "")
    except ValueError:
        raise ConfigError(
            f"report --against {key}: {run.folder} has {found!r} there; name a key of config.yaml that is a number, "
            "such as benchmark.agreement"
        ) from None


def _points(value: float, runs: Sequence[Run], selection: str, metric: str) -> list[Point]:
    lines = lines_of(finished_rows(runs), selection)
    column = Column("out of domain", metric, OUT_OF_DOMAIN)
    by_line = {line: values_of(lines, line, column) for line in lines}
    return [_point(value, line, by_line) for line, values in by_line.items() if values]


def _point(value: float, line: Line, by_line: Mapping[Line, Mapping[int, float]]) -> Point:
    accuracies = {seed: 100 * found for seed, found in by_line[line].items()}
    baseline = by_line.get(Line(line.group, BASELINE, ""), {})
    gains = [] if line.method == BASELINE else [a - 100 * baseline[s] for s, a in accuracies.items() if s in baseline]
    found = list(accuracies.values())
    gain = fmean(gains) if gains else None
    return Point(value, line, len(found), fmean(found), standard_error(found), gain, standard_error(gains))


def _gains_by_label(points: Sequence[Point]) -> dict[str, list[Point]]:
    by_label: dict[str, list[Point]] = {}
    for point in points:
        if point.gain is not None:
            by_label.setdefault(point.line.label, []).append(point)
    return by_label


def _shown(value: float, error: float | None, sign: str = "") -> str:
    return f"{value:{sign}.1f}" + ("" if error is None else f" ± {error:.1f}")
