"""A page of explained pictures, which lie beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from align_dist.pages.markup import figure, section, zoom
from align_dist.pages.page import page

HEADER = (
    "<p>The attribution is of the likeliest class, from black (0) to yellow (1). A click shows a picture large. "
    '<a href="explanations.csv">explanations.csv</a> has all probabilities.</p>'
)


class Explained(NamedTuple):
    """A picture's row: where it lies, the images made of it by kind, and the probability of each class."""

    source: Path
    images: dict[str, Path]
    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])


def page_of(rows: Sequence[Explained], folder: Path) -> str:
    """HTML of all rows in order; images are named relative to the page's folder."""
    return page(f"{len(rows)} pictures", HEADER, "\n".join(_section(row, folder) for row in rows), "'self' file:")


def _section(row: Explained, folder: Path) -> str:
    likeliest = sorted(row.probabilities.items(), key=lambda entry: -entry[1])[:3]
    classes = ", ".join(f"{name} {value:.1%}" for name, value in likeliest)
    figures = "".join(_figure(kind, path.relative_to(folder), row.source) for kind, path in row.images.items())
    return section(f"{row.source}: {classes}", f'<div class="tiles">{figures}</div>')


def _figure(kind: str, path: Path, source: Path) -> str:
    image = f'<img alt="{escape(f"{kind} of {source}")}" loading="lazy" src="{quote(path.as_posix())}">'
    return figure(zoom(image), kind, "tile")
