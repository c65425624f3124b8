"""Training curves of several runs, one panel a scalar, one colour a method."""

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

# Validation first, then what tells whether the masker went astray, then the losses.
PANELS = (r"^validation/accuracy$", r"^mask/area$", r"^validation/(commonest_cell|map_following)$", r"/loss$")
MOST_PANELS, POINTS, COLUMNS = 9, 200, 3
# Okabe and Ito's colours, told apart by colour-blind readers as well; yellow is too pale on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

Curves = dict[str, Series]


def training_curves(runs: Sequence[Run]) -> bytes | None:
    """A PNG of validation accuracy, mask area and losses over the steps; None when no run has any.

    Each run is one line; runs of one method share a colour, methods in the order of the runs. Long series
    are averaged down to 200 points.
    """
    curves = [(run.label, read_scalars(RunFolder(run.folder).metrics)) for run in runs]
    tags = panel_tags({tag for _, found in curves for tag in found})
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
    """The tags worth a panel, most telling first, nine at most."""
    chosen: dict[str, None] = {}
    for pattern in PANELS:
        chosen.update(dict.fromkeys(sorted(tag for tag in tags if re.search(pattern, tag.lower()))))
    return list(chosen)[:MOST_PANELS]


def thinned(series: Series, points: int = POINTS) -> tuple[list[float], list[float]]:
    """Steps and values averaged over consecutive bins so that at most `points` remain."""
    items = list(series.items())
    size = -(-len(items) // points)
    bins = [items[i : i + size] for i in range(0, len(items), size)]
    steps = [sum(step for step, _ in some) / len(some) for some in bins]
    return steps, [sum(value for _, value in some) / len(some) for some in bins]


def _panel(axes: Axes, tag: str, labels: Sequence[str], curves: Sequence[tuple[str, Curves]]) -> None:
    """One scalar of every run that has it; an empty panel without a tag."""
    if not tag:
        axes.set_axis_off()
        return
    # Empty lines give every method its entry in the legend, also where this panel has none of its curves.
    for number, label in enumerate(labels):
        axes.plot([], [], color=COLORS[number % len(COLORS)], label=label)
    for label, found in curves:
        if tag in found:
            color = COLORS[labels.index(label) % len(COLORS)]
            axes.plot(*thinned(found[tag]), color=color, linewidth=1.0, alpha=0.75)
    axes.set_title(tag, fontsize=9, loc="left")
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
