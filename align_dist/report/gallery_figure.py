"""The gallery of a domain as a picture, for papers and READMEs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from align_dist.errors import DataError
from align_dist.report.aggregate import differences_of
from align_dist.report.gallery import TILE_NAMES, Shown, choose_images, grey, same_images, tiles_of
from align_dist.report.inspection import RunDetails
from align_dist.runs.details import Bytes
from align_dist.runs.results import OUT_OF_DOMAIN
from align_dist.visual import PRINTED_INK, drawing, new_figure, write_png

RULE_WIDTH = 20  # characters in a line beside the images
TILE, GAP = 1.05, 0.2  # inches, and the width of a gap in tiles
SIDEWAYS: dict[str, Any] = {"fontsize": 6, "rotation": 90, "ha": "right", "va": "center", "ma": "center"}


def write_gallery(runs: Sequence[RunDetails], domain: str, path: Path) -> None:
    """Write a PNG of the images that `choose_images` chooses: each method's map, overlay and learned mask beside them.

    domain: of the gallery; empty for the first target domain, or the first one where there are no targets. Raises
    DataError where no run has examples of it or runs are of several comparisons, StorageError.
    """
    groups = {run.rows[0].group for run, _ in runs}
    if len(groups) > 1:
        raise DataError(f"{path}: a gallery shows runs that may be compared; these differ in {differences_of(groups)}")
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
    choices, first = choose_images(methods), methods[0].examples
    image_names = ("image", "true mask")[: 2 if len(first.objects) else 1]
    blocks = [len(image_names), *(len(tiles_of(examples, 0)) for _, examples in methods)]
    # A narrow empty column after each block but the last.
    widths = [width for block in blocks for width in (*[1.0] * block, GAP)][:-1]
    with drawing(PRINTED_INK):
        figure = new_figure(TILE * sum(widths) + 0.3, (TILE + 0.3) * len(choices) + 0.3)
        grid = figure.subplots(len(choices), len(widths), squeeze=False, width_ratios=widths)
        for axes in grid.flat:
            axes.set_axis_off()
        for row, choice in enumerate(choices):
            true = int(first.labels[choice.place])
            objects = [grey(first.objects[choice.place])] if len(first.objects) else []
            tiles = [first.images[choice.place], *objects]
            _block(grid[row], 0, tiles, image_names if row == 0 else (), f"is {classes[true]}")
            grid[row, 0].text(-0.08, 0.5, fill(choice.rule, RULE_WIDTH), **SIDEWAYS, transform=grid[row, 0].transAxes)
            start = len(tiles) + 1
            for label, examples in methods:
                predicted, confidence = int(examples.predictions[choice.place]), examples.confidences[choice.place]
                mark = "\N{CHECK MARK}" if predicted == true else "\N{BALLOT X}"
                tiles = tiles_of(examples, choice.place)
                first_name = f"{label}, for the true class:\n{TILE_NAMES[0]}"
                names = (first_name, *TILE_NAMES[1 : len(tiles)]) if row == 0 else ()
                _block(grid[row], start, tiles, names, f"says {classes[predicted]}, {confidence:.0%} {mark}")
                start += len(tiles) + 1
        write_png(figure, path)


def _block(row: NDArray[np.object_], start: int, tiles: Sequence[Bytes], names: Sequence[str], below: str) -> None:
    """Tiles from a column on, with names above (none for no names) and a text below the first one."""
    for index, tile in enumerate(tiles):
        row[start + index].imshow(tile, interpolation="nearest")
    for index, name in enumerate(names):
        row[start + index].set_title(name, fontsize=7)
    text = row[start].text(0, -0.04, below, fontsize=7, va="top", ha="left", transform=row[start].transAxes)
    text.set_in_layout(False)  # or a long name would make its column wider than the others
