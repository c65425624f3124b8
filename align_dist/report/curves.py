"""Learning curves of several runs: one panel a scalar, one colour a method, the end of warm-up marked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from align_dist.report.measures import measure
from align_dist.report.rows import Run
from align_dist.runs.metrics import Series, scalars_of
from align_dist.schema.values import to_steps
from align_dist.visual import GREY, Look, drawing, legend, looks_of, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Health first: validation, masks, maps; each network's terms after.
HEALTH = (
    "validation/accuracy",
    "validation/worst_group_accuracy",
    "validation/commonest_cell",
    "validation/map_following",
    "validation/stays_mirror",
    "validation/stays_shift",
    "mask/area",
    "mask/binariness",
)
MEANINGS = {
    "validation/accuracy": "Accuracy on the validation part of the source domains.",
    "mask/area": "Mean of the masks that guide, 0 to 1; from where guidance begins.",
    "mask/binariness": "Mean of |2M - 1| over the masks that guide: 1 for masks of 0 and 1 alone, 0 for grey ones.",
    "masker/distinction": "L_dist: how far the masker is from masks that keep all evidence and leave none outside.",
    "masker/sparsity": "Mean of the masks, which lambda1 weighs.",
    "masker/smoothness": "Total variation of the masks, which lambda2 weighs.",
    "classifier/classification": "Cross-entropy of the images.",
    "classifier/guidance": "Distance of Grad-CAM from the mask, as the method measures the distance.",
    "classifier/exchange": "Cross-entropy of what the mask marks before another image.",
}
WEIGHT = "/weight/"
COLUMNS, MOST_POINTS, FEWEST_POINTS = 3, 4000, 30


class RunCurves(NamedTuple):
    """A run's scalars by tag, and the step at which its warm-up ended (None where unknown)."""

    label: str
    scalars: Mapping[str, Series]
    warmup: int | None


def read_curves(run: Run) -> RunCurves:
    """A run's curves; weighted terms have tags such as `masker/weighted/sparsity`."""
    scalars = scalars_of(run.records)
    weighted = {
        tag.replace(WEIGHT, "/weighted/"): {
            step: weight * terms[step] for step, weight in weights.items() if step in terms
        }
        for tag, weights in scalars.items()
        if WEIGHT in tag and (terms := scalars.get(tag.replace(WEIGHT, "/")))
    }
    return RunCurves(run.label, scalars | weighted, _warmup(run))


def _warmup(run: Run) -> int | None:
    """The step at which warm-up ended, from config.yaml and the epochs in metrics.jsonl."""
    duration = run.settings.get("training.warmup")
    epochs = [(record.step, record.epoch) for record in run.records if record.epoch > 0]
    if not duration or not epochs:
        return None
    step, epoch = epochs[-1]
    try:
        return to_steps(duration, step / epoch)
    except ValueError:
        return None


def health_plot(curves: Sequence[RunCurves]) -> str:
    """An <svg> of validation, masks and maps over the steps; empty where no run has any of these."""
    tags = {tag for run in curves for tag in run.scalars}
    return _plot(curves, [tag for tag in HEALTH if tag in tags], "Validation, masks and maps while training")


def loss_plot(curves: Sequence[RunCurves]) -> str:
    """An <svg> of each term of the losses, raw (solid) and weighted (dashed); empty where no run has any."""
    return _plot(curves, term_tags({tag for run in curves for tag in run.scalars}), "Terms of the losses")


def tag_meanings(curves: Sequence[RunCurves]) -> dict[str, str]:
    """Tag -> what the tag says, of the tags that some run has and that have a meaning here."""
    tags = {tag for run in curves for tag in run.scalars}
    named = {f"validation/{name}": measure(name).meaning for name in (tag.partition("/")[2] for tag in HEALTH)}
    return {tag: text for tag, text in ({**named, **MEANINGS}).items() if tag in tags and text}


def term_tags(tags: Iterable[str]) -> list[str]:
    """The tags of losses and their terms, by network: those with a weight, and the networks' losses."""
    tags = set(tags)
    terms = {tag.replace(WEIGHT, "/") for tag in tags if WEIGHT in tag} & tags
    return sorted(terms | {tag for tag in tags if re.fullmatch(r"[^/]+/loss", tag)})


def _plot(curves: Sequence[RunCurves], tags: Sequence[str], name: str) -> str:
    if not tags:
        return ""
    labels = list(dict.fromkeys(run.label for run in curves))
    looks = looks_of(labels)
    rows, columns = -(-len(tags) // COLUMNS), min(COLUMNS, len(tags))
    with drawing():
        figure = new_figure(4.0 * columns, 2.3 * rows + 0.25 * (1 + len(labels) // 5))
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes, tag in zip(panels.flat, [*tags, *[""] * (rows * columns - len(tags))], strict=True):
            _panel(axes, tag, curves, looks)
        legend(figure, panels.flat[0])
        return to_svg(figure, f"{name}: {', '.join(tags)} for {', '.join(labels)}")


def _panel(axes: Axes, tag: str, curves: Sequence[RunCurves], looks: Mapping[str, Look]) -> None:
    """Draw one scalar of every run with the scalar; leave the panel empty without a tag."""
    if not tag:
        axes.set_axis_off()
        return
    # Empty lines give every method an entry in the legend, even without a curve in this panel.
    for label, look in looks.items():
        axes.plot([], [], color=look.color, linestyle=look.dash, label=label)
    points = max(FEWEST_POINTS, MOST_POINTS // len(curves))
    network, _, term = tag.partition("/")
    for run in curves:
        look = looks[run.label]
        for name, dash, width in ((tag, look.dash, 1.1), (f"{network}/weighted/{term}", (0, (2, 2)), 0.8)):
            if name in run.scalars:
                axes.plot(*thinned(run.scalars[name], points), color=look.color, ls=dash, linewidth=width, alpha=0.8)
    for step in {run.warmup for run in curves} - {None, 0}:
        axes.axvline(float(step or 0), color=GREY, linestyle="-.", linewidth=0.8)
    axes.set_title(tag)
    axes.set_xlabel("step")


def thinned(series: Series, points: int) -> tuple[list[float], list[float]]:
    """Steps and values averaged over consecutive bins, at most `points` in number."""
    items = list(series.items())
    size = max(1, -(-len(items) // points))
    bins = [items[i : i + size] for i in range(0, len(items), size)]
    steps = [sum(step for step, _ in bin_items) / len(bin_items) for bin_items in bins]
    return steps, [sum(value for _, value in bin_items) / len(bin_items) for bin_items in bins]
