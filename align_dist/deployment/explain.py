"""Explanations of a trained model for new pictures: images, a table and a page."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from align_dist.data.progress import progress
from align_dist.deployment.page import Explained, page_of
from align_dist.errors import DataError, StorageError
from align_dist.files import unwritable, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from align_dist.deployment.model import Explanation, Model

BATCH = 32


def explain_pictures(model: Model, pictures: Sequence[tuple[Path, Path]], out: Path) -> list[Explained]:
    """Write <out>/<name>-{image,attribution,overlay,mask}.png of each picture, explanations.csv and index.html.

    The attribution is of the likeliest class. A file that is no readable picture is named on standard error and passed
    over. pictures: as `find_pictures` has them.

    Raises DataError where none is readable, StorageError where `out` cannot be written.
    """
    rows: list[Explained] = []
    with progress("explaining", len(pictures), "pictures") as advance:
        for start in range(0, len(pictures), BATCH):
            readable = list(_readable(model, pictures[start : start + BATCH]))
            if readable:
                rows += _explain(model, readable, out)
            advance(min(start + BATCH, len(pictures)))
    if not rows:
        others = f", nor is any other of the {len(pictures)} files" if len(pictures) > 1 else ""
        raise DataError(f"{pictures[0][0]}: not a readable picture{others}; name some that are")
    write_text(out / "explanations.csv", _table(rows, model.classes))
    write_text(out / "index.html", page_of(rows, out))
    return rows


def _readable(model: Model, pictures: Sequence[tuple[Path, Path]]) -> Iterator[tuple[Path, Path, Tensor]]:
    for path, name in pictures:
        try:
            (pixels,) = model.pixels([path])
        except DataError as error:
            print(f"passed over: {error}", file=sys.stderr)
        else:
            yield path, name, pixels


def _explain(model: Model, pictures: Sequence[tuple[Path, Path, Tensor]], out: Path) -> Iterator[Explained]:
    import torch

    explanation = model.explain(torch.stack([pixels for _, _, pixels in pictures]))
    for index, (path, name, _) in enumerate(pictures):
        values = explanation.probabilities[index].tolist()
        images = _write_images(_images_of(explanation, index), out / name)
        yield Explained(path, images, dict(zip(model.classes, values, strict=True)))


def _images_of(explanation: Explanation, index: int) -> dict[str, Tensor]:
    """Each (3, S, S) in [0, 1], by kind."""
    from align_dist.training.contact_sheet import colored, overlay

    image, attribution = explanation.images[index : index + 1], explanation.attribution[index : index + 1]
    kinds = {"image": image, "attribution": colored(attribution), "overlay": overlay(image, attribution)}
    if explanation.mask is not None:
        kinds["mask"] = colored(explanation.mask[index : index + 1])
    return {kind: pixels[0] for kind, pixels in kinds.items()}


def _write_images(images: dict[str, Tensor], stem: Path) -> dict[str, Path]:
    from PIL import Image

    paths = {kind: stem.with_name(f"{stem.name}-{kind}.png") for kind in images}
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for kind, pixels in images.items():
            Image.fromarray((pixels * 255).round().byte().movedim(0, -1).numpy()).save(paths[kind])
    except OSError as error:
        raise unwritable(stem, error) from None
    return paths


def _table(rows: Sequence[Explained], classes: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["picture", "class", "probability", *classes])
    for row in rows:
        values = [f"{row.probabilities[name]:.6f}" for name in classes]
        writer.writerow([row.source, row.label, f"{row.probabilities[row.label]:.6f}", *values])
    return text.getvalue()


def check_writable(out: Path) -> None:
    """Raise StorageError, before a model is loaded, where `out` cannot be a folder."""
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out}: a file, expected a folder for what is made; name another with --out")
