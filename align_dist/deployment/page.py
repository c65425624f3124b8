"""A page of explained pictures, which lie beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from align_dist.deployment.explain import Explained

STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}
article{border-top:1px solid #8886;padding:1rem 0}
h2{font-size:1rem;margin:0 0 .5rem;overflow-wrap:anywhere}
figure{display:inline-block;margin:0 .75rem .5rem 0;text-align:center}
img{width:11rem;display:block;image-rendering:auto}
figcaption{font-size:.85rem}
"""
# The browser itself refuses scripts and whatever comes from elsewhere.
POLICY = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"


def page_of(rows: Sequence[Explained], folder: Path) -> str:
    """HTML of all rows in order; images are named relative to the page's folder."""
    articles = "\n".join(_article(row, folder) for row in rows)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>Explanations</title>"
        "<meta name='viewport' content='width=device-width'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head><body>'
        f"<h1>{len(rows)} pictures</h1><p>The attribution is of the likeliest class, from black (0) to yellow (1). "
        f"All probabilities: <a href='explanations.csv'>explanations.csv</a></p>\n{articles}\n</body></html>\n"
    )


def _figure(kind: str, path: Path, source: Path) -> str:
    text = escape(f"{kind} of {source}", quote=True)
    return f"<figure><img src='{quote(path.as_posix())}' alt='{text}'><figcaption>{kind}</figcaption></figure>"


def _article(row: Explained, folder: Path) -> str:
    figures = "".join(_figure(kind, path.relative_to(folder), row.source) for kind, path in row.images.items())
    likeliest = sorted(row.probabilities.items(), key=lambda entry: -entry[1])[:3]
    classes = ", ".join(f"{escape(name)} {value:.1%}" for name, value in likeliest)
    return f"<article><h2>{escape(str(row.source))}: {classes}</h2>{figures}</article>"
