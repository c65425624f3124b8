"""A whole HTML page that asks nothing of the network and runs no script but its own."""

from __future__ import annotations

from html import escape

from align_dist.pages.script import DIALOG, SCRIPT, SCRIPT_HASH
from align_dist.pages.style import STYLE


def page(title: str, header: str, main: str, images: str = "data:") -> str:
    """The page as text. header, main: HTML, without the title's heading. images: where the browser may load images
    from, as a Content-Security-Policy names sources: inside the page, unless given.
    """
    policy = f"default-src 'none'; img-src {images}; style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>{header}</header>\n<main>\n{main}\n</main>\n{DIALOG}\n"
        f"<script>{SCRIPT}</script></body></html>\n"
    )
