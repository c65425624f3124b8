"""A gallery of one domain: all methods side by side on the same images, which rules choose."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from align_dist.pages.markup import figure, picture
from align_dist.report.inspection import RunDetails
from align_dist.runs.details import Bytes, Examples, read_details
from align_dist.runs.folder import RunFolder
from align_dist.visual import OVERLAY, color_table

Floats = NDArray[np.float64]
GAP, QUALITY = 4, 80
TILE_NAMES = ("Grad-CAM", "overlay", "mask")


class Shown(NamedTuple):
    """A method's examples of the images that all methods have, in the same order."""

    label: str
    examples: Examples


class Choice(NamedTuple):
    """An image: its place among the examples, and the rule that chose it."""

    place: int
    rule: str


def same_images(runs: Sequence[RunDetails], domain: str) -> tuple[int, list[Shown]]:
    """The seed of which most methods have examples of the domain, and these methods' examples of the same images.

    Of equal seeds the smallest. No method where none has examples. Only examples that are shown are read.
    """
    by_seed: dict[int, dict[str, Path]] = {}
    for run, domains in runs:
        if domain in domains and domains[domain].curves is not None:
            path = RunFolder(run.folder).details / f"{domain}.npz"
            by_seed.setdefault(run.rows[0].seed, {}).setdefault(run.label, path)
    if not by_seed:
        return 0, []
    seed = max(by_seed, key=lambda seed: (len(by_seed[seed]), -seed))
    details_by_label = {label: read_details(path) for label, path in by_seed[seed].items()}
    examples = {label: details.examples for label, details in details_by_label.items() if details and details.examples}
    common = sorted(set.intersection(*({int(sample) for sample in e.samples} for e in examples.values())))
    return seed, [
        Shown(label, _select(label_examples, common)) for label, label_examples in examples.items()
    ] if common else []


def choose_images(methods: Sequence[Shown]) -> list[Choice]:
    """One to four images: where Grad-CAM agrees best, middling and worst with the object, over all methods, and where
    the methods' maps differ most. The object is the true mask, else each method's learned mask.
    """
    choices: list[Choice] = []
    agreement = _mean_agreement(methods)
    where = "on the object" if len(methods[0].examples.objects) else "inside the learned mask"
    if np.isfinite(agreement).any():
        ranked = np.argsort(np.where(np.isfinite(agreement), agreement, np.inf), kind="stable")
        ranked = ranked[: int(np.isfinite(agreement).sum())]
        for place, rule in ((-1, "best"), (len(ranked) // 2, "median"), (0, "worst")):
            index = int(ranked[place])
            if index not in [choice.place for choice in choices]:
                choices.append(Choice(index, f"{rule} agreement, {agreement[index]:.0%} of Grad-CAM {where}"))
    if len(methods) > 1:
        difference = _mean_difference(methods)
        difference[[choice.place for choice in choices]] = -1
        index = int(difference.argmax())
        if difference[index] >= 0:
            choices.append(Choice(index, f"methods differ most, {difference[index]:.0%} of Grad-CAM on other pixels"))
    return choices or [Choice(0, "first image")]


def gallery(methods: Sequence[Shown], classes: Sequence[str]) -> str:
    """A row of figures for each chosen image: the image, and each method's map, overlay and learned mask."""
    return "\n".join(_row(methods, choice, classes) for choice in choose_images(methods))


def _select(examples: Examples, samples: Sequence[int]) -> Examples:
    place = {int(sample): index for index, sample in enumerate(examples.samples)}
    index = np.array([place[sample] for sample in samples])
    return Examples(**{name: values[index] if len(values) else values for name, values in vars(examples).items()})


def _mean_agreement(methods: Sequence[Shown]) -> Floats:
    """Share of each image's saliency inside the object, mean over methods; NaN where none has an object."""
    values = []
    for _, examples in methods:
        objects = examples.objects if len(examples.objects) else examples.masks
        if len(objects):
            saliency = examples.saliency.astype(np.float64)
            inside, total = (saliency * (objects / 255)).sum((1, 2)), saliency.sum((1, 2))
            values.append(np.where((total > 0) & (objects.sum((1, 2)) > 0), inside / np.maximum(total, 1), np.nan))
    if not values:
        return np.full(len(methods[0].examples.samples), np.nan)
    stacked = np.stack(values)
    count = np.isfinite(stacked).sum(0)
    return np.where(count > 0, np.nansum(stacked, axis=0) / np.maximum(count, 1), np.nan)


def _mean_difference(methods: Sequence[Shown]) -> Floats:
    """Half of the L1 distance between two methods' maps as distributions, in [0, 1], mean over pairs, by image."""
    maps = [examples.saliency.reshape(len(examples.samples), -1).astype(np.float64) for _, examples in methods]
    shares = [values / np.maximum(values.sum(1, keepdims=True), 1) for values in maps]
    distances = [np.abs(one - other).sum(1) / 2 for one, other in combinations(shares, 2)]
    return np.asarray(np.mean(distances, axis=0), np.float64)


def _row(methods: Sequence[Shown], choice: Choice, classes: Sequence[str]) -> str:
    first = methods[0].examples
    true = classes[int(first.labels[choice.place])]
    objects = [first.objects[choice.place]] if len(first.objects) else []
    image = _strip([first.images[choice.place], *map(grey, objects)])
    mask = ", true mask" if objects else ""
    parts = [_figure(image, f"{true}: image{mask}", f"{true}: the image{mask}")]
    for label, examples in methods:
        predicted = classes[int(examples.predictions[choice.place])]
        confidence = f"{predicted} {examples.confidences[choice.place]:.0%}"
        mark = "\N{CHECK MARK}" if predicted == true else "\N{BALLOT X}"
        tiles = tiles_of(examples, choice.place)
        what = ", ".join(TILE_NAMES[: len(tiles)])
        caption = f"{label} says {confidence} {mark}: {what}"
        parts.append(_figure(_strip(tiles), caption, f"{what} of {label} for {true}; predicted {confidence}"))
    return f'<div class="row"><h4>{choice.rule}</h4><div class="tiles">{"".join(parts)}</div></div>'


def _figure(strip: Bytes, caption: str, name: str) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(strip).save(stream, "WEBP", quality=QUALITY)
    return figure(picture(stream.getvalue(), name, "webp", (strip.shape[1], strip.shape[0])), caption, "tile")


def tiles_of(examples: Examples, index: int) -> list[Bytes]:
    """Map, overlay and, where learned, mask, each (H, W, 3)."""
    colors = color_table()[examples.saliency[index]]
    mixed = (1 - OVERLAY) * examples.images[index] + OVERLAY * colors
    masks = [grey(examples.masks[index])] if len(examples.masks) else []
    return [colors, mixed.round().astype(np.uint8), *masks]


def grey(mask: Bytes) -> Bytes:
    """A mask (H, W) as an image (H, W, 3)."""
    return np.repeat(mask[..., None], 3, axis=2)


def _strip(tiles: Sequence[Bytes]) -> Bytes:
    """Tiles side by side with a gap."""
    gap = np.full((tiles[0].shape[0], GAP, 3), 128, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
