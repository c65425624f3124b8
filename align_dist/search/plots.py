"""Pictures of a search: the objective over trials and against each setting, all settings at once, and the cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from align_dist.files import write_whole
from align_dist.report.curves import COLORS
from align_dist.runs.status import State
from align_dist.schema.distributions import Choice, LogUniform, Value
from align_dist.schema.values import to_steps
from align_dist.search.objective import SIGNS, Accuracy, Pareto
from align_dist.search.results import PAPER_WARMUP, Entry, Found
from align_dist.search.space import SearchConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = COLORS[0], COLORS[1], COLORS[2]
MARKERS = {State.FINISHED: "o", State.STOPPED: "v", State.FAILED: "x", State.INTERRUPTED: "s"}
COLUMNS = 3
GREEK = {f"lambda{k}": f"λ{k}" for k in range(1, 5)} | {"warmup": "warm-up"}


@dataclass(frozen=True)
class Axis:
    """A setting as numbers. ticks: where to write which value, where numbers alone would not say it."""

    name: str
    numbers: Sequence[float]
    logarithmic: bool
    ticks: dict[float, str]


def draw_search(found: Found, folder: Path) -> list[Path]:
    """Writes the pictures that the search has numbers for; returns their paths."""
    measured = [entry for entry in found.entries if entry.objective is not None]
    figures: dict[str, Figure] = {"cost": _cost(found)}
    if measured:
        figures["objective"] = _over_trials(found, measured)
        figures["settings"] = _against_settings(found, measured)
    if len(measured) > 1:
        figures["parallel"] = _parallel(found, measured)
    if isinstance(found.search.objective, Pareto) and measured:
        figures["front"] = _pareto(found, found.search.objective, measured)
    return [_save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    write_whole(path, lambda file: figure.savefig(file, format="png", metadata={"Software": None}))
    return path


def quiet(axes: Axes) -> None:
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def objective_name(search: SearchConfig) -> str:
    """What is maximised, for an axis."""
    objective = search.objective
    if isinstance(objective, Accuracy | Pareto):
        return "source validation accuracy"
    sign = "+" if SIGNS[objective.metric] > 0 else "−"
    return f"source validation accuracy {sign} {objective.weight:g} · {objective.metric}"


def _upright(search: SearchConfig) -> str:
    """Of a low axis: in two lines where it has two parts."""
    return objective_name(search).replace(" + ", "\n+ ").replace(" − ", "\n− ")


def axis_of(search: SearchConfig, key: str, values: Sequence[Value]) -> Axis:
    """A setting's values as numbers: of a range as they are, of a choice their places, numbers and lengths by size."""
    name = key.rpartition(".")[2]
    shown, distribution = GREEK.get(name, key), search.space[key]
    if not isinstance(distribution, Choice):
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        return Axis(shown, numbers, isinstance(distribution, LogUniform), {})
    options = sorted(distribution.choice, key=_size)
    places = [float(options.index(value)) for value in values]
    return Axis(shown, places, False, {float(place): str(option) for place, option in enumerate(options)})


def _size(option: Value) -> float:
    """What choices are ordered by; words stay as they stand in the file."""
    if isinstance(option, int | float):
        return float(option)
    is_length = isinstance(option, str) and option[:1].isdigit() and option.endswith(("epochs", "steps"))
    return float(to_steps(str(option), 1000.0)) if is_length else 0.0


def _points(axes: Axes, found: Found, entries: Sequence[Entry], x: Sequence[float], y: Sequence[float]) -> None:
    """One mark a trial, by state; the best with a ring."""
    for state, marker in MARKERS.items():
        chosen = [i for i, entry in enumerate(entries) if entry.state == state]
        if chosen:
            places = [x[i] for i in chosen], [y[i] for i in chosen]
            axes.scatter(*places, s=26, marker=marker, color=BLUE, label=str(state))
    for i, entry in enumerate(entries):
        if entry.number == found.best or entry.number in found.front:
            axes.scatter([x[i]], [y[i]], s=110, facecolors="none", edgecolors=ORANGE, linewidths=1.6)
    quiet(axes)


def _over_trials(found: Found, entries: Sequence[Entry]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(6.4, 3.4)
    axes = figure.subplots()
    numbers = [float(entry.number) for entry in entries]
    values = [entry.objective or 0.0 for entry in entries]
    best = np.maximum.accumulate(
        [v if e.state is State.FINISHED else -math.inf for v, e in zip(values, entries, strict=True)]
    )
    there = [i for i, value in enumerate(best) if math.isfinite(value)]
    axes.step(
        [numbers[i] for i in there],
        [float(best[i]) for i in there],
        where="post",
        color=ORANGE,
        linewidth=1.2,
        label="best so far",
    )
    _points(axes, found, entries, numbers, values)
    again = [(made.confirms, made.objective) for made in found.confirmations if made.objective is not None]
    if again:
        x, y = zip(*again, strict=True)
        axes.scatter(x, y, s=22, facecolors="none", edgecolors=GREEN, label="on other seeds")
    axes.set_xlabel("trial", fontsize=9)
    axes.set_ylabel(_upright(found.search), fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False, loc="best")
    return figure


def _against_settings(found: Found, entries: Sequence[Entry]) -> Figure:
    keys = list(found.search.space)
    columns, rows = min(COLUMNS, len(keys)), -(-len(keys) // COLUMNS)
    figure = new_figure(3.4 * columns, 2.7 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    objectives = [entry.objective or 0.0 for entry in entries]
    for axes, key in zip(panels.flat, [*keys, *[""] * (rows * columns - len(keys))], strict=True):
        if not key:
            axes.set_axis_off()
            continue
        axis = axis_of(found.search, key, [entry.values[key] for entry in entries])
        _points(axes, found, entries, axis.numbers, objectives)
        axes.set_xlabel(axis.name, fontsize=9)
        scale(axes, "x", found.search, key, axis)
    for row in panels:
        row[0].set_ylabel(_upright(found.search), fontsize=8)
    handles, names = panels.flat[0].get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=8)
    return figure


def scale(axes: Axes, side: Literal["x", "y"], search: SearchConfig, key: str, axis: Axis) -> None:
    """One side of a picture over all that the space allows, with numbers that people read."""
    from matplotlib.ticker import NullLocator

    (low, high), line = _bounds(search, key, axis), axes.xaxis if side == "x" else axes.yaxis
    if axis.logarithmic:
        axes.set(**{f"{side}scale": "log"})
        marks = np.geomspace(low, high, 5)
        line.set_minor_locator(NullLocator())
        line.set_ticks(list(marks), [f"{mark:.2g}" for mark in marks])
        axes.set(**{f"{side}lim": (low / (high / low) ** 0.05, high * (high / low) ** 0.05)})
        return
    if axis.ticks:
        line.set_ticks(list(axis.ticks), list(axis.ticks.values()))
    space = 0.3 if axis.ticks else 0.05 * (high - low)
    axes.set(**{f"{side}lim": (low - space, high + space)})


def _parallel(found: Found, entries: Sequence[Entry]) -> Figure:
    """Each trial a line through its settings, coloured by its objective; the best drawn last."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    keys = list(found.search.space)
    figure = new_figure(max(6.0, 1.5 * (len(keys) + 1) + 1.2), 3.6)
    axes = figure.subplots()
    objectives = [entry.objective or 0.0 for entry in entries]
    norm = Normalize(min(objectives), max(*objectives, min(objectives) + 0.001))
    columns = [axis_of(found.search, key, [entry.values[key] for entry in entries]) for key in keys]
    heights = [_scaled(found.search, key, axis) for key, axis in zip(keys, columns, strict=True)]
    heights.append([float(norm(value)) for value in objectives])
    order = sorted(range(len(entries)), key=lambda i: (entries[i].number == found.best, objectives[i]))
    for i in order:
        best = entries[i].number == found.best
        color = colormaps["viridis"](norm(objectives[i]))
        axes.plot(
            [column[i] for column in heights], color=color, linewidth=2.6 if best else 1.1, alpha=1 if best else 0.8
        )
    marks = [_marks(found.search, key, column) for key, column in zip(keys, columns, strict=True)]
    marks.append([(0.0, f"{norm.vmin:.3f}"), (1.0, f"{norm.vmax:.3f}")])
    paper = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    for place, column_marks in enumerate(marks):
        axes.axvline(place, color="#888888", linewidth=0.8)
        for height, text in column_marks:
            axes.text(place + 0.03, height, text, fontsize=7, va="center", bbox=paper, zorder=4)
    axes.set_xticks(range(len(keys) + 1), [*(column.name for column in columns), "objective"], fontsize=9)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(keys) + 0.4)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(objective_name(found.search), fontsize=8)
    return figure


def _bounds(search: SearchConfig, key: str, axis: Axis) -> tuple[float, float]:
    if axis.ticks:
        return 0.0, float(max(1, len(axis.ticks) - 1))
    numbers = [float(value) for value in search.space[key].extremes() if isinstance(value, int | float)]
    low, high = min(numbers), max(numbers)
    return (low, high) if high > low else (low, low + 1)


def _scaled(search: SearchConfig, key: str, axis: Axis) -> list[float]:
    """The setting's values from 0 to 1 over what the space allows."""
    low, high = _bounds(search, key, axis)
    if axis.logarithmic:
        return [math.log(number / low) / math.log(high / low) for number in axis.numbers]
    return [(number - low) / (high - low) for number in axis.numbers]


def _marks(search: SearchConfig, key: str, axis: Axis) -> list[tuple[float, str]]:
    """What stands along a setting's axis, from 0 to 1."""
    low, high = _bounds(search, key, axis)
    if axis.ticks:
        return [(place / high, text) for place, text in axis.ticks.items()]
    middle = math.sqrt(low * high) if axis.logarithmic else (low + high) / 2
    return [(0.0, f"{low:g}"), (0.5, f"{middle:.2g}"), (1.0, f"{high:g}")]


def _cost(found: Found) -> Figure:
    """Epochs with and without sharing, and by formula how the ratio depends on the length of a run."""
    from align_dist.search.plan import cost_at
    from align_dist.search.results import PAPER_LENGTHS

    figure = new_figure(7.6, 3.0)
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    cost, trials = found.cost, found.whole_runs
    bars = left.barh(
        ["warm-up shared", "from scratch"], [cost.sharing, cost.alone], color=[BLUE, "#999999"], height=0.6
    )
    left.bar_label(bars, [f"{cost.sharing:.1f}", f"{cost.alone:.1f}"], padding=3, fontsize=8)
    left.set_xlabel("epochs trained", fontsize=9)
    left.set_title(
        f"measured: {trials} trials on {found.trunks} trunks, {cost.ratio:.3f} of the epochs", fontsize=9, loc="left"
    )
    left.margins(x=0.15)
    left.invert_yaxis()
    quiet(left)
    lengths = np.linspace(PAPER_WARMUP, 3 * PAPER_WARMUP, 60)
    right.plot(lengths, [cost_at(trials, found.trunks, PAPER_WARMUP, float(x)).ratio for x in lengths], color=BLUE)
    marked = [cost_at(trials, found.trunks, PAPER_WARMUP, x).ratio for x in PAPER_LENGTHS]
    right.scatter(PAPER_LENGTHS, marked, s=22, color=ORANGE, zorder=3)
    for length, ratio in zip(PAPER_LENGTHS, marked, strict=True):
        right.annotate(f"{ratio:.2f}", (length, ratio), xytext=(4, -10), textcoords="offset points", fontsize=8)
    right.set_xlabel("length of a run, epochs", fontsize=9)
    right.set_title(f"by formula: warm-up of {PAPER_WARMUP:g} epochs", fontsize=9, loc="left")
    right.set_ylim(0, 1)
    quiet(right)
    return figure


def _pareto(found: Found, objective: Pareto, entries: Sequence[Entry]) -> Figure:
    figure = new_figure(5.0, 3.8)
    axes = figure.subplots()
    x = [entry.metrics["accuracy"] for entry in entries]
    y = [entry.metrics[objective.metric] for entry in entries]
    on_front = sorted((found.entry(number) for number in found.front), key=lambda entry: entry.metrics["accuracy"])
    if on_front:
        line: Any = [(entry.metrics["accuracy"], entry.metrics[objective.metric]) for entry in on_front]
        axes.plot(*zip(*line, strict=True), color=ORANGE, linewidth=1.0)
    _points(axes, found, entries, x, y)
    better = "less is better" if SIGNS[objective.metric] < 0 else "more is better"
    axes.set_xlabel("source validation accuracy", fontsize=9)
    axes.set_ylabel(f"{objective.metric} ({better})", fontsize=9)
    return figure
