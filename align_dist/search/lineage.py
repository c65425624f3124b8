"""A picture of a population: what each member's λs were, from which step on, and whose copy it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from align_dist.config import LAMBDAS
from align_dist.search.plots import BLUE, ORANGE, axis_of, new_figure, quiet, scale
from align_dist.search.results import Entry, Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#aaaaaa"


def draw_lineage(found: Found) -> Figure:
    """One panel a λ: a horizontal line a member, an upright one where it began as a copy; the best's ancestry in blue.

    A member that was replaced ends with a cross.
    """
    keys = list(found.search.space)
    rows, columns = (2, 2) if len(keys) == len(LAMBDAS) else (1, len(keys))
    figure = new_figure(1.6 + 3.2 * columns, 0.4 + 2.6 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes, key in zip(panels.flat, keys, strict=True):
        _panel(axes, found, key)
    for axes in panels[-1]:
        axes.set_xlabel("step", fontsize=9)
    handles, names = panels.flat[0].get_legend_handles_labels()
    told = dict(zip(names, handles, strict=True))
    figure.legend(told.values(), told.keys(), loc="outside lower center", ncols=len(told), frameon=False, fontsize=8)
    return figure


def ancestry(entries: Sequence[Entry], number: int | None) -> set[int]:
    """The numbers of a trial and of those that it descends from."""
    parents = {entry.number: entry.parent for entry in entries}
    found: set[int] = set()
    while number is not None:
        found.add(number)
        number = parents[number]
    return found


def _panel(axes: Axes, found: Found, key: str) -> None:
    entries, chosen = found.entries, ancestry(found.entries, found.best)
    axis = axis_of(found.search, key, [entry.values[key] for entry in entries])
    height = {entry.number: number for entry, number in zip(entries, axis.numbers, strict=True)}
    # Where the best's ancestors were copied: from there on they are not its past.
    left = {entry.parent: entry.since for entry in entries if entry.number in chosen}
    for entry in entries:
        y, start = height[entry.number], entry.since or entry.branch_step
        ends, best = entry.state == "stopped", entry.number in chosen
        axes.hlines(y, start, max(start, entry.steps), colors=GREY, linewidths=1.1, label="member")
        if entry.parent is not None:
            axes.plot(
                [start, start], [height[entry.parent], y], color=BLUE if best else GREY, linestyle=":", label="copied"
            )
        if best:
            axes.hlines(
                y, start, left.get(entry.number, entry.steps), colors=BLUE, linewidths=2.4, zorder=3, label="the best"
            )
        elif ends:
            axes.plot([entry.steps], [y], marker="x", markersize=5, color=ORANGE, linestyle="", label="replaced")
    quiet(axes)
    axes.set_ylabel(axis.name, fontsize=9)
    scale(axes, "y", found.search, key, axis)
