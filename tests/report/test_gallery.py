"""Images that rules choose, and their picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_details, make_run
from PIL import Image
from refusals import raises

from align_dist.errors import DataError
from align_dist.report.gallery import Shown, choose_images, same_images
from align_dist.report.gallery_figure import write_gallery
from align_dist.report.inspection import details_of
from align_dist.report.rows import read_runs
from align_dist.runs.details import Examples, write_details


def shown(label: str, inside: Sequence[float], objects: bool = True) -> Shown:
    """Maps with a share of each inside the object, the left half of 10 x 10 pixels."""
    count = len(inside)
    saliency, mask = np.zeros((count, 10, 10), np.uint8), np.zeros((count, 10, 10), np.uint8)
    mask[:, :, :5] = 255
    for index, share in enumerate(inside):
        saliency[index, 0, :5], saliency[index, 0, 5:] = round(100 * share), round(100 * (1 - share))
    numbers = np.arange(count)
    none = mask[:0]
    images = np.zeros((count, 10, 10, 3), np.uint8)
    true = mask if objects else none
    return Shown(label, Examples(numbers, numbers, numbers, np.ones(count), images, saliency, none, true))


def test_the_best_median_and_worst_agreement_and_the_largest_difference() -> None:
    """Means of agreement: .5, .9, .55, .2, .7; the maps of image 2 differ most, those of image 1 not at all."""
    methods = [shown("a", [0.5, 0.9, 1.0, 0.3, 0.6]), shown("b", [0.5, 0.9, 0.1, 0.1, 0.8])]
    choices = choose_images(methods)
    assert [choice.place for choice in choices] == [1, 2, 3, 4]
    assert [choice.rule.split()[0] for choice in choices] == ["best", "median", "worst", "methods"]
    assert "90%" in choices[0].rule and "20%" in choices[2].rule


def test_without_objects_only_differences_choose() -> None:
    methods = [shown("a", [0.5, 0.9], objects=False), shown("b", [0.6, 0.1], objects=False)]
    assert [choice.place for choice in choose_images(methods)] == [1]


def test_a_single_method_has_no_differences() -> None:
    assert [choice.place for choice in choose_images([shown("a", [0.1, 0.9])])] == [1, 0]


def test_all_methods_show_the_same_images_of_the_seed_that_most_have(tmp_path: Path) -> None:
    for method, seed in (("erm", 0), ("erm", 1), ("align", 1)):
        folder = make_run(tmp_path / f"{method}-{seed}", method, seed)
        details = made_details(("a", "b"))
        assert details.examples is not None
        samples = np.arange(3) + (method == "align")
        examples = Examples(
            **{
                name: np.repeat(values, 3, 0) if name != "samples" else samples
                for name, values in vars(details.examples).items()
            }
        )
        write_details(folder / "details", {"out": replace(details, examples=examples)})
    seed, methods = same_images([details_of(run) for run in read_runs([tmp_path])], "out")
    assert seed == 1
    assert {label: examples.samples.tolist() for label, examples in methods} == {"erm": [1, 2], "align": [1, 2]}
    assert methods[0].examples.masks.shape == (0, 8, 8)


def test_the_picture_has_a_row_for_each_image_and_names_what_it_lacks(tmp_path: Path) -> None:
    for method in ("erm", "align"):
        make_run(tmp_path / "runs" / method, method, 0)
    runs = [details_of(run) for run in read_runs([tmp_path])]
    write_gallery(runs, "", tmp_path / "gallery.png")
    width, height = Image.open(io.BytesIO((tmp_path / "gallery.png").read_bytes())).size
    assert width > height > 100, "one row: the image, and two tiles of each method"
    with raises(DataError, "nowhere", "out"):
        write_gallery(runs, "nowhere", tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def test_one_method_without_masks_shows_an_image_all_the_same(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "erm", "erm", 0)
    runs = [details_of(run) for run in read_runs([tmp_path])]
    write_gallery(runs, "", tmp_path / "gallery.png")
    assert Image.open(tmp_path / "gallery.png").height > 100


@pytest.mark.parametrize("name", ["source", "benchmark"])
def test_runs_of_several_comparisons_are_refused(tmp_path: Path, name: str) -> None:
    make_run(tmp_path / "a", "erm", 0)
    make_run(tmp_path / "b", "erm", 0, **{name: "other"})
    with raises(DataError, tmp_path / "gallery.png"):
        write_gallery([details_of(run) for run in read_runs([tmp_path])], "", tmp_path / "gallery.png")
