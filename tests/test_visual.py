"""Looks of methods, and figures as pages take them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from matplotlib import colormaps
from PIL import Image

from align_dist.options.registry import METHODS
from align_dist.visual import color_table, drawing, looks_of, new_figure, to_svg, write_png


def test_every_method_has_a_look_of_its_own_on_every_page() -> None:
    methods = [name for name in METHODS if not name.startswith("made_up")]  # by other tests
    looks = looks_of(methods)
    assert len({*looks.values()}) == len(methods)
    assert all(looks_of([method, "other"])[method] == look for method, look in looks.items())


def test_variants_have_their_methods_colour_and_are_told_apart() -> None:
    labels = ["align", *(f"align ({name})" for name in "abcdefgh")]
    looks = looks_of(labels)
    assert {look.color for look in looks.values()} == {looks["align"].color}
    assert len({look.marker for look in looks.values()}) == len(labels)
    assert looks_of(["align (a)"])["align (a)"] == looks["align (a)"]


def test_methods_from_elsewhere_differ_too() -> None:
    labels = ["mine", "mine (a)", "yours"]
    looks = looks_of(labels)
    assert list(looks) == labels
    assert looks["mine"].color == looks["mine (a)"].color != looks["yours"].color


def test_maps_are_coloured_as_matplotlib_does() -> None:
    expected = colormaps["inferno"](np.arange(256))[:, :3] * 255
    np.testing.assert_allclose(color_table(), expected, atol=0.5)


def test_a_figure_for_a_page_is_well_formed_named_and_in_the_pages_ink() -> None:
    with drawing():
        figure = new_figure(3, 2)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        axes.set_title("a < b")
        svg = to_svg(figure, '"a" & b')
        second_svg = to_svg(figure, '"a" & b')
    root = ElementTree.fromstring(svg.replace("xlink:href", "href"))
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == '"a" & b'
    assert any("a < b" in text for text in root.itertext())
    assert "currentColor" in svg and "#010203" not in svg and "<metadata" not in svg
    assert svg == second_svg


def test_a_printed_figure_is_white_and_the_same_when_drawn_again(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        with drawing("#222222"):
            figure = new_figure(2, 1)
            figure.subplots().plot([0, 1], [0, 1])
            write_png(figure, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").convert("RGB").getpixel((0, 0)) == (255, 255, 255)
