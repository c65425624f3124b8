"""The gallery of a domain as a picture, for papers and READMEs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from align_dist.errors import DataError
from align_dist.report.gallery import Shown, choose_images, same_images, tiles_of
from align_dist.report.inspection import RunDetails
from align_dist.runs.details import Bytes
from align_dist.runs.results import OUT_OF_DOMAIN
from align_dist.visual import PRINTED_INK, drawing, new_figure, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TILE = 1.05  # inches
TILE_NAMES = ("Grad-CAM", "overlay", "mask")


def write_gallery(runs: Sequence[RunDetails], domain: str, path: Path) -> None:
    """Write a PNG of the images that `choose_images` chooses: each method's map, overlay and learned mask beside them.

    domain: of the gallery; empty for the first target domain, or the first one where there are no targets. Raises
    DataError where no run has examples of it or runs are of several comparisons, StorageError.
    """
    groups = {run.rows[0].group for run, _ in runs}
    if len(groups) > 1:
        raise DataError(f"{path}: a gallery shows one comparison, these runs are of {len(groups)}; name fewer folders")
    targets = {row.domain for run, _ in runs for row in run.rows if row.role == OUT_OF_DOMAIN}
    domains = sorted({name for _, details in runs for name in details}, key=lambda name: (name not in targets, name))
    shown_domain = domain or next(iter(domains), "")
    _, methods = same_images(runs, shown_domain)
    if not methods:
        known = ", ".join(domains) or "none; `align-dist evaluate RUN` makes them"
        raise DataError(f"{path}: no run has examples of domain {shown_domain!r}; there are: {known}")
    classes = next(details[shown_domain].classes for _, details in runs if shown_domain in details)
    _draw(methods, classes, path)


def _draw(methods: Sequence[Shown], classes: Sequence[str], path: Path) -> None:
    choices = choose_images(methods)
    columns = [tiles_of(examples, choices[0].place) for _, examples in methods]
    widths = [1, *(len(tiles) for tiles in columns)]
    with drawing(PRINTED_INK):
        figure = new_figure(TILE * sum(widths) + 0.4 * len(methods), (TILE + 0.25) * len(choices) + 0.4)
        parts = figure.subfigures(1, len(widths), width_ratios=[width + 0.2 for width in widths], squeeze=False)[0]
        parts[0].suptitle(" ", fontsize=10)  # as high as the methods' names
        image_axes = parts[0].subplots(len(choices), 1, squeeze=False)
        for row, choice in enumerate(choices):
            image = methods[0].examples.images[choice.place]
            _tile(image_axes[row, 0], image, classes[int(methods[0].examples.labels[choice.place])])
        for part, (label, examples), tiles in zip(parts[1:], methods, columns, strict=True):
            part.suptitle(label, fontsize=10)
            axes = part.subplots(len(choices), len(tiles), squeeze=False)
            for row, choice in enumerate(choices):
                predicted = classes[int(examples.predictions[choice.place])]
                confidence = f"{predicted} {examples.confidences[choice.place]:.0%}"
                names = (f"Grad-CAM: {confidence}", *TILE_NAMES[1:])
                for column, tile in enumerate(tiles_of(examples, choice.place)):
                    _tile(axes[row, column], tile, names[column])
        write_png(figure, path)


def _tile(axes: Axes, pixels: Bytes, title: str) -> None:
    axes.set_axis_off()
    axes.imshow(pixels, interpolation="nearest")
    axes.set_title(title, fontsize=8)
