"""Figures from details of runs: confusion, calibration, and probability as pixels come and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from align_dist.report.render import MISSING, Table
from align_dist.report.rows import Run
from align_dist.runs.details import Details, read_details
from align_dist.runs.folder import RunFolder
from align_dist.visual import COLORMAP, GREY, Look, drawing, legend, looks_of, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE = "erm"
Domains = Mapping[str, Mapping[str, Sequence[Details]]]
"""Domain -> label -> details of each seed."""

PANEL, COLUMNS, MOST_CLASSES = 2.5, 4, 30
FEWEST_IMAGES = 10  # in a point of a reliability diagram: of fewer, accuracy is noise
Draw = Callable[["Axes", Sequence[Details], Look, str], None]


class RunDetails(NamedTuple):
    """A run with its details by domain, as far as they are of the run's results."""

    run: Run
    domains: Mapping[str, Details]


def in_order(runs: Sequence[Run]) -> list[Run]:
    """The finished runs in the order of pages and galleries: the baseline first, then by label and seed."""
    finished = [run for run in runs if run.finished and run.rows]
    return sorted(finished, key=lambda r: (r.label != BASELINE, r.label, r.rows[0].seed, str(r.folder)))


def details_of(run: Run) -> RunDetails:
    """The details, without examples, that are of the same weights and images as the run's rows."""
    domains: dict[str, Details] = {}
    for row in run.rows:
        if row.domain in domains:
            continue
        details = read_details(RunFolder(run.folder).details / f"{row.domain}.npz", with_examples=False)
        if details and (details.selection, details.step, details.fingerprint) == (
            row.selection,
            row.step,
            row.fingerprint,
        ):
            domains[row.domain] = details
    return RunDetails(run, domains)


def by_domain(runs: Sequence[RunDetails]) -> Domains:
    """The details of all runs in the order of domains' names."""
    domains: dict[str, dict[str, list[Details]]] = {}
    for run, details_by_domain in runs:
        for domain, details in details_by_domain.items():
            domains.setdefault(domain, {}).setdefault(run.label, []).append(details)
    return dict(sorted(domains.items()))


def curve_plot(domains: Domains) -> str:
    """An <svg> of insertion and deletion curves, two panels a domain; empty without curves."""
    with_curves = {domain: _with_curves(by_label) for domain, by_label in domains.items()}
    panels = [
        (f"{kind}, {domain}", by_label, draw)
        for domain, by_label in with_curves.items()
        if by_label
        for kind, draw in (("insertion", _draw_insertion), ("deletion", _draw_deletion))
    ]
    return _plot(panels, "Insertion and deletion curves", "share of pixels", "probability")


def calibration_plot(domains: Domains) -> str:
    """An <svg> of reliability diagrams, one panel a domain."""
    panels = [(domain, by_label, _draw_calibration) for domain, by_label in domains.items()]
    return _plot(panels, "Reliability diagrams", "confidence", "accuracy")


def calibration_table(domains: Domains) -> Table:
    """Expected calibration error by method and domain, mean over seeds."""
    labels = list(dict.fromkeys(label for by_label in domains.values() for label in by_label))
    rows = tuple((label, *(_mean_error(by_label.get(label, ())) for by_label in domains.values())) for label in labels)
    return Table("Expected calibration error, mean over seeds", ("method", *domains), rows)


def _mean_error(seeds: Sequence[Details]) -> str:
    return f"{np.mean([details.calibration_error for details in seeds]):.3f}" if seeds else MISSING


def confusion_plot(by_label: Mapping[str, Sequence[Details]], domain: str) -> str:
    """An <svg> of a domain's confusion matrices, one panel a method: shares of the images of a true class.

    Empty for more than 30 classes, which no panel has room for.
    """
    classes = next(iter(by_label.values()))[0].classes
    if len(classes) > MOST_CLASSES:
        return ""
    rows, columns = -(-len(by_label) // COLUMNS), min(COLUMNS, len(by_label))
    with drawing():
        figure = new_figure(PANEL * columns + 0.9, PANEL * rows + 0.6)
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        image = None
        for axes in panels.flat:
            axes.set_axis_off()
        for axes, (label, seeds) in zip(panels.flat, by_label.items(), strict=False):
            axes.set_axis_on()
            counts = np.sum([details.confusion for details in seeds], axis=0)
            shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            image = axes.imshow(shares, vmin=0, vmax=1, cmap=COLORMAP, interpolation="nearest")
            axes.grid(visible=False)
            axes.set_title(label)
            axes.set_xticks(range(len(classes)), classes, rotation=90)
            axes.set_yticks(range(len(classes)), classes)
        if image is not None:
            figure.colorbar(image, ax=panels, shrink=0.7, label="share of the true class (rows)")
        return to_svg(figure, f"Confusion on {domain} by true and predicted class for {', '.join(by_label)}")


def _with_curves(by_label: Mapping[str, Sequence[Details]]) -> dict[str, list[Details]]:
    seeds_by_label = {label: [details for details in seeds if details.curves] for label, seeds in by_label.items()}
    return {label: seeds for label, seeds in seeds_by_label.items() if seeds}


def _plot(
    panels: Sequence[tuple[str, Mapping[str, Sequence[Details]], Draw]], name: str, x_label: str, y_label: str
) -> str:
    if not panels:
        return ""
    labels = list(dict.fromkeys(label for _, by_label, _ in panels for label in by_label))
    looks = looks_of(labels)
    rows, columns = -(-len(panels) // COLUMNS), min(COLUMNS, len(panels))
    with drawing():
        figure = new_figure(3.0 * columns, 2.5 * rows + 0.25 * (1 + len(labels) // 5))
        axes_grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in axes_grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, by_label, draw) in zip(axes_grid.flat, panels, strict=False):
            for label, seeds in by_label.items():
                draw(axes, seeds, looks[label], label)
            axes.set_title(title)
            axes.set_xlabel(x_label)
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
        axes_grid[0, 0].set_ylabel(y_label)
        legend(figure, axes_grid[0, 0])
        return to_svg(figure, f"{name} for {', '.join(labels)}")


def _draw_insertion(axes: Axes, seeds: Sequence[Details], look: Look, label: str) -> None:
    _draw_curve(axes, [details.curves.insertion for details in seeds if details.curves], look, label)


def _draw_deletion(axes: Axes, seeds: Sequence[Details], look: Look, label: str) -> None:
    _draw_curve(axes, [details.curves.deletion for details in seeds if details.curves], look, label)


def _draw_curve(axes: Axes, curves: Sequence[NDArray[np.float64]], look: Look, label: str) -> None:
    """The mean over seeds with a band of a standard error on each side."""
    values = np.stack([curve for curve in curves if len(curve) == len(curves[0])])
    shares, mean = np.linspace(0, 1, values.shape[1]), values.mean(0)
    axes.plot(shares, mean, color=look.color, linestyle=look.dash, label=label)
    if len(values) > 1:
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        axes.fill_between(shares, mean - error, mean + error, color=look.color, alpha=0.2, linewidth=0)


def _draw_calibration(axes: Axes, seeds: Sequence[Details], look: Look, label: str) -> None:
    """Accuracy over confidence, of all seeds' images together, in bins with ten images or more; points are larger where
    more images are.
    """
    count, confidence, right = np.sum([details.calibration for details in seeds], axis=0).T
    has_images = count >= FEWEST_IMAGES
    confidence, accuracy = confidence[has_images] / count[has_images], right[has_images] / count[has_images]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=(0, (1, 3)))
    axes.plot(confidence, accuracy, color=look.color, linestyle=look.dash, label=label)
    sizes = 2 + 40 * count[has_images] / count.sum()
    axes.scatter(confidence, accuracy, sizes, color=look.color, marker=look.marker, clip_on=False)
