"""Pieces of pages, read as a browser reads them."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from align_dist.pages import markup

HOSTILE = '"><script>alert(1)</script>&'


@pytest.mark.parametrize(
    "html",
    [
        markup.section(HOSTILE, "<p>x</p>", name=HOSTILE),
        markup.subheading(HOSTILE),
        markup.paragraph(HOSTILE),
        markup.definitions({HOSTILE: HOSTILE}),
        markup.folded(HOSTILE, "<p>x</p>"),
        markup.figure("<p>x</p>", HOSTILE),
        markup.preformatted(HOSTILE),
        markup.links([(HOSTILE, HOSTILE)]),
        markup.picture(b"x", HOSTILE, "webp", (4, 3)).replace('">', '"/>').replace('dialog"/>', 'dialog">'),
    ],
)
def test_text_stays_text(html: str) -> None:
    element = ElementTree.fromstring(html)
    values = [*element.itertext(), *(value for part in element.iter() for value in part.attrib.values())]
    assert any(HOSTILE in value for value in values)
    assert "script" not in {part.tag for part in element.iter()}


def test_a_section_without_content_is_none() -> None:
    assert markup.section("heading", "", "") == ""
