"""Dot plots: each method's seeds, mean and standard error, and its difference to a baseline, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from align_dist.report.aggregate import Column, Line, SeedValues, standard_error, values_of
from align_dist.report.measures import measure
from align_dist.runs.results import OUT_OF_DOMAIN, Row
from align_dist.visual import GREY, Look, drawing, looks_of, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE_HEIGHT, PANEL_WIDTH, PANELS = 0.24, 3.1, 4
LEAST_SPAN = 0.1  # of an axis, in the measure before its scale: ten points of a percentage
# Where a table has more columns than a plot has panels: what is asked first, first.
PREFERRED = ("accuracy", "worst_group_accuracy", "insertion_auc", "commonest_cell", "energy_inside", "mask_iou")


def dot_plot(lines: Mapping[Line, Sequence[Row]], columns: Sequence[Column], baseline: str) -> str:
    """An <svg>: one panel a column with the methods' values above, and below their differences to the baseline.

    lines: of one group. baseline: a label; without a line of this label the lower panels are left out.
    """
    shown = _most_important(columns)
    labels = [line.label for line in lines]
    looks = looks_of(labels)
    values = {column: {line.label: values_of(lines, line, column) for line in lines} for column in shown}
    paired = baseline in labels and len(labels) > 1
    with drawing():
        figure = new_figure(PANEL_WIDTH * len(shown) + 0.8, (1 + paired) * (LINE_HEIGHT * len(labels) + 0.9))
        panels = figure.subplots(1 + paired, len(shown), squeeze=False, sharey="row")
        for index, column in enumerate(shown):
            form = measure(column.metric)
            scaled = {
                label: {seed: value * form.scale for seed, value in by_seed.items()}
                for label, by_seed in values[column].items()
            }
            _draw(panels[0, index], scaled, looks)
            _widen(panels[0, index], LEAST_SPAN * form.scale)
            panels[0, index].set_title(column.title if form.scale == 1 else f"{column.title} {_unit(column)}".strip())
            if paired:
                differences = {label: _minus(by_seed, scaled[baseline]) for label, by_seed in scaled.items()}
                _draw(panels[1, index], {k: v for k, v in differences.items() if k != baseline}, looks)
                panels[1, index].axvline(0, color=GREY, linewidth=0.9)
                low, high = panels[1, index].get_xlim()
                panels[1, index].set_xlim(min(low, 0), max(high, 0))
                _widen(panels[1, index], LEAST_SPAN * form.scale)
                panels[1, index].set_title(f"minus {baseline}, paired by seed")
        return to_svg(figure, f"Dot plot of {', '.join(column.title for column in shown)} for {', '.join(labels)}")


def _widen(axes: Axes, span: float) -> None:
    """Make the axis at least `span` wide, so that a small difference does not look like a large one."""
    low, high = axes.get_xlim()
    missing = max(0.0, span - (high - low)) / 2
    axes.set_xlim(low - missing, high + missing)


def _unit(column: Column) -> str:
    """The unit that the column's title does not name."""
    return "" if "%" in column.title else "%"


def _most_important(columns: Sequence[Column]) -> list[Column]:
    """The columns of a plot: of accuracies on targets the mean over domains alone, where there is one."""
    means = any(column.domain is None and column.role == OUT_OF_DOMAIN for column in columns)
    single = [c for c in columns if means and c.domain and c.role == OUT_OF_DOMAIN and c.metric == "accuracy"]
    ranked = [column for metric in PREFERRED for column in columns if column.metric == metric and column not in single]
    panels = [*ranked, *(column for column in columns if column not in ranked)][:PANELS]
    return [column for column in columns if column in panels]


def _minus(values: SeedValues, baseline: SeedValues) -> SeedValues:
    return {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}


def _draw(axes: Axes, values: Mapping[str, SeedValues], looks: Mapping[str, Look]) -> None:
    """One row a label, from above: a dot for each seed, the mean and its standard error."""
    for place, (label, by_seed) in enumerate(values.items()):
        look, numbers = looks[label], list(by_seed.values())
        if not numbers:
            continue
        axes.plot(numbers, [place] * len(numbers), linestyle="", marker=".", color=look.color, alpha=0.45)
        error = standard_error(numbers) or 0.0
        mean = fmean(numbers)
        axes.errorbar([mean], [place], xerr=[error], color=look.color, marker=look.marker, capsize=3, markersize=5)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
