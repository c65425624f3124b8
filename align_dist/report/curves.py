"""Training curves of several runs, one panel per scalar, one colour per method."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from align_dist.report.rows import Run
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import Series, read_scalars

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Validation first, then signs of a failing masker, then the losses.
PANELS = (r"^validation/accuracy$", r"^mask/area$", r"^validation/(commonest_cell|map_following)$", r"/loss$")
MOST_PANELS, POINTS, COLUMNS = 9, 200, 3
# Okabe and Ito's colours, which colour-blind readers can distinguish, without yellow, which is too pale on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

Curves = dict[str, Series]


def training_curves(runs: Sequence[Run]) -> bytes | None:
    """A PNG of validation accuracy, mask area and losses over the steps; None where no run has any of these.

    Each run is one line; runs of one method share a colour, in the order of the runs. Long series are averaged down to
    200 points.
    """
    curves = [(run.label, read_scalars(RunFolder(run.folder).metrics)) for run in runs]
    tags = panel_tags({tag for _, scalars in curves for tag in scalars})
    if not tags:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, rows = min(COLUMNS, len(tags)), -(-len(tags) // COLUMNS)
    labels = list(dict.fromkeys(label for label, _ in curves))
    figure = Figure(figsize=(4.0 * columns, 2.6 * rows + 0.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, tag in zip(panels.flat, [*tags, *[""] * (rows * columns - len(tags))], strict=True):
        _panel(axes, tag, labels, curves)
    handles, names = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def panel_tags(tags: Iterable[str]) -> list[str]:
    """The tags with a panel, most important first, at most nine."""
    panels: dict[str, None] = {}
    for pattern in PANELS:
        panels.update(dict.fromkeys(sorted(tag for tag in tags if re.search(pattern, tag.lower()))))
    return list(panels)[:MOST_PANELS]


def thinned(series: Series, points: int = POINTS) -> tuple[list[float], list[float]]:
    """Steps and values averaged over consecutive bins, at most `points` in number."""
    items = list(series.items())
    size = -(-len(items) // points)
    bins = [items[i : i + size] for i in range(0, len(items), size)]
    steps = [sum(step for step, _ in bin_items) / len(bin_items) for bin_items in bins]
    return steps, [sum(value for _, value in bin_items) / len(bin_items) for bin_items in bins]


def _panel(axes: Axes, tag: str, labels: Sequence[str], curves: Sequence[tuple[str, Curves]]) -> None:
    """Draw one scalar of every run with the scalar; leave the panel empty without a tag."""
    if not tag:
        axes.set_axis_off()
        return
    # Empty lines give every method an entry in the legend, even without a curve in this panel.
    for number, label in enumerate(labels):
        axes.plot([], [], color=COLORS[number % len(COLORS)], label=label)
    for label, scalars in curves:
        if tag in scalars:
            color = COLORS[labels.index(label) % len(COLORS)]
            axes.plot(*thinned(scalars[tag]), color=color, linewidth=1.0, alpha=0.75)
    axes.set_title(tag, fontsize=9, loc="left")
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
