"""The visual language of all plots and pictures: colours of methods and maps, and how a figure is drawn."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from align_dist.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Maps are black (0) to yellow (1): perceptually uniform, so equal steps look equal, also to colour-blind readers.
COLORMAP = "inferno"
OVERLAY = 0.5  # share of the colours in an overlay
GREY = "#888888"
# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell apart, without the two
# that are too pale on white or too dark on black.
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
# Stands for the page's ink in a figure that becomes SVG; the page replaces it by `currentColor`.
INK = "#010203"
PRINTED_INK = "#222222"
READABLE = 68  # pixels of a page for an inch of a figure, at least


class Look(NamedTuple):
    """The style of a method's lines and points."""

    color: str
    dash: str
    marker: str


_METHODS = {
    "erm": Look(GREY, "-", "o"),
    "align": Look(VERMILION, "-", "o"),
    "dre": Look(BLUE, "-", "o"),
    "sgt": Look(GREEN, "-", "o"),
    "fixed_mask": Look(PURPLE, "-", "o"),
    "haics": Look(SKY, "-", "o"),
    "gradia": Look(ORANGE, "-", "o"),
    "care": Look(BLUE, "--", "s"),
    "res": Look(GREEN, "--", "s"),
    "cgc": Look(PURPLE, "--", "s"),
    "mixup": Look(SKY, "--", "s"),
    "rsc": Look(ORANGE, "--", "s"),
    "irm": Look(BLUE, ":", "^"),
    "groupdro": Look(GREEN, ":", "^"),
}


def looks_of(labels: Sequence[str]) -> dict[str, Look]:
    """Label -> look. A method always has the same; its variants have its colour, with other dashes and markers.

    labels: `method` or `method (variant)`. Methods from elsewhere take the colours in turn.
    """
    styles = zip(cycle(DASHES), MARKERS, strict=False)
    others = (Look(color, *style) for style, color in product(styles, (BLUE, GREEN, PURPLE, SKY, ORANGE)))
    looks, methods, variants = dict[str, Look](), dict(_METHODS), Counter[str]()
    for label in sorted(labels):
        method, _, variant = label.partition(" (")
        if method not in methods:
            methods[method] = next(others)
        looks[label] = methods[method]
        if variant:
            variants[method] += 1
            dash, marker = DASHES[variants[method] % len(DASHES)], MARKERS[variants[method] % len(MARKERS)]
            looks[label] = looks[label]._replace(dash=dash, marker=marker)
    return {label: looks[label] for label in labels}


@cache
def color_table() -> NDArray[np.uint8]:
    """The colormap as (256, 3) bytes."""
    from matplotlib import colormaps

    colors = np.asarray(colormaps[COLORMAP](np.linspace(0, 1, 256)), np.float64)[:, :3]
    return np.asarray((colors * 255).round(), np.uint8)


@contextmanager
def drawing(ink: str = INK) -> Iterator[None]:
    """Draw figures within this context in the style of all of them. ink: of text and axes."""
    from matplotlib import rc_context

    style: Any = {
        **{key: ink for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.labelsize": 8,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "grid.color": GREY,
        "grid.alpha": 0.25,
        "grid.linewidth": 0.6,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.2,
        "lines.markersize": 4,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "svg.fonttype": "none",
        "svg.hashsalt": "align_dist",
    }
    with rc_context(style):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches; call within `drawing`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend(figure: Figure, axes: Axes, columns: int = 5) -> None:
    """The legend of one of the figure's panels, below all of them."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(columns, max(1, len(names))))


def to_svg(figure: Figure, name: str) -> str:
    """An <svg> element for a page: text as text, in the page's ink, never too narrow to read.

    name: what a screen reader says.
    """
    from html import escape

    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={key: None for key in ("Date", "Creator", "Format", "Type")})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r' id="[A-Za-z][A-Za-z0-9]*_\d+"', "", svg)  # which would repeat between figures
    svg = svg.replace(INK, "currentColor")
    least = round(figure.get_figwidth() * READABLE)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(name)}" style="min-width: {least}px"', 1)


def write_png(figure: Figure, path: Path) -> None:
    """Write the figure as PNG on white, atomically; the same bytes when drawn again. Raises StorageError."""
    save = partial(figure.savefig, format="png", facecolor="white", metadata={"Software": None})
    write_atomically(path, save)
