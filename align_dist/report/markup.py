"""Pieces of HTML, all text escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape


def section(heading: str, *parts: str, name: str = "") -> str:
    """A section with its heading; empty where all parts are. name: the anchor that links lead to."""
    body = "\n".join(filter(None, parts))
    anchor = f' id="{escape(name)}"' if name else ""
    return f"<section{anchor}><h2>{escape(heading)}</h2>\n{body}</section>" if body else ""


def subheading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of a kind that the style sheet knows: soft, warning, or none."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def definitions(facts: Mapping[str, str]) -> str:
    """A list of terms and what is said of them."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>"


def folded(summary: str, content: str) -> str:
    """Content (HTML) folded behind a summary (text)."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def figure(content: str, caption: str = "", kind: str = "plot") -> str:
    """A figure with content (HTML) and a caption (text)."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{kind}">{content}{below}</figure>'


def picture(data: bytes, name: str, media: str, size: tuple[int, int]) -> str:
    """A picture inside the page, which a click shows large. size: width and height in pixels. name: its description."""
    width, height = size
    source = f"data:image/{media};base64,{b64encode(data).decode('ascii')}"
    image = f'<img alt="{escape(name)}" width="{width}" height="{height}" src="{source}">'
    return f'<button type="button" class="zoom" aria-haspopup="dialog">{image}</button>'


def links(sections: Sequence[tuple[str, str]]) -> str:
    """Links to sections, by anchor and heading."""
    items = "".join(f'<li><a href="#{escape(name)}">{escape(heading)}</a></li>' for name, heading in sections)
    return f'<nav aria-label="Sections"><ul>{items}</ul></nav>'


def preformatted(text: str) -> str:
    """Text as it stands."""
    return f"<pre>{escape(text)}</pre>"
