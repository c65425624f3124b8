from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_runs import made_details, make_run
from PIL import Image
from refusals import raises

from align_dist import cli
from align_dist.errors import DataError, StorageError
from align_dist.report.configurations import differing_settings, environments, unequal_settings
from align_dist.report.html import write_report
from align_dist.report.measures import measure
from align_dist.report.rows import read_runs
from align_dist.runs.details import write_details
from align_dist.runs.status import State

HOSTILE = '<script>alert("x")</script><img src=http://evil.example/x.png>'


class Page(HTMLParser):
    """Tags with attributes, and texts, as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def report(tmp_path: Path) -> tuple[str, Page]:
    destination = tmp_path / "report" / "index.html"
    destination.parent.mkdir(exist_ok=True)
    write_report(read_runs([tmp_path / "runs"]), destination)
    page = destination.read_text("utf-8")
    return page, Page(page)


def two_methods(tmp_path: Path) -> None:
    for seed in range(2):
        for method in ("erm", "align"):
            make_run(tmp_path / "runs" / f"{method}-{seed}", method, seed)


def test_the_report_holds_tables_curves_pictures_and_configurations(tmp_path: Path) -> None:
    two_methods(tmp_path)
    _, page = report(tmp_path)
    titles = [text for text in page.texts if "Summary," in text or "Difference to erm," in text]
    assert [("Difference to erm" in t, "source validation" in t) for t in titles] == [
        (False, True), (True, True), (False, False), (True, False)
    ]  # fmt: skip
    assert page.text.index("What the models look at") < page.text.index("Difference to erm")
    assert measure("accuracy").meaning in page.text
    # The first image of the gallery, and the methods beside it, once a domain: all examples are the same.
    assert page.count("img") == 2 * 3
    anchors = {attributes.get("id") for tag, attributes in page.elements if tag == "section"}
    assert anchors >= {"results", "gallery", "faithfulness", "confusion", "calibration", "training", "cost", "settings"}
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert links == {f"#{anchor}" for anchor in anchors}
    assert "lambda3: 0.5" in page.text and "55.0 \N{PLUS-MINUS SIGN} 5.0" in page.text


def test_differences_to_any_line_are_asked_for_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(tmp_path)
    command = ["report", str(tmp_path / "runs"), "--format", "csv", "--minus"]
    assert cli.main([*command, "erm"]) == 0
    (line,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (line["method"], line["seeds"]) == ("align", "2") and line["in (in-domain)"][0] in "+-"
    assert cli.main([*command, "nobody"]) == 2
    assert cli.main([*command, "erm", "--html", str(tmp_path / "page.html")]) == 2


def test_pictures_are_inlined_and_nothing_is_asked_of_the_network(tmp_path: Path) -> None:
    two_methods(tmp_path)
    text, page = report(tmp_path)
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert Image.open(io.BytesIO(base64.b64decode(sources[-1].partition(",")[2]))).size[1] == 8
    own = re.sub(r"data:image/webp;base64,[\w+/=]+|http://www.w3.org/\w+/\w+", "", text)
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import", own)
    assert {"link", "iframe", "object"}.isdisjoint(tag for tag, _ in page.elements)
    assert page.count("script") == 1


def test_everything_that_comes_from_a_run_is_escaped(tmp_path: Path) -> None:
    hostile: dict[str, Any] = dict.fromkeys(("experiment", "benchmark", "variant"), HOSTILE)
    folder = make_run(tmp_path / "runs" / "a", HOSTILE, 0, **hostile)
    make_run(tmp_path / "runs" / "b <b>unfinished", HOSTILE, 1, is_done=False)
    (folder / "config.yaml").write_text(f"note: '{HOSTILE}'\n")
    write_details(folder / "details", {"in": made_details((HOSTILE, "b"))})
    text, page = report(tmp_path)
    assert page.count("script") == 1 and "<script>alert" not in text
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert sources and all(source.startswith("data:image/") for source in sources)
    names = {name for tag, attributes in page.elements if tag == "img" for name in attributes}
    assert names == {"alt", "src", "width", "height"}
    assert page.text.count(HOSTILE) >= 4


def test_details_of_other_weights_or_images_are_not_shown(tmp_path: Path) -> None:
    two_methods(tmp_path)
    for method, update in (("erm", {"step": 8}), ("align", {"fingerprint": "other"})):
        for seed in range(2):
            folder = tmp_path / "runs" / f"{method}-{seed}" / "details"
            write_details(folder, dict.fromkeys(("in", "out"), replace(made_details(("a", "b")), **update)))
    _, page = report(tmp_path)
    anchors = {attributes.get("id") for tag, attributes in page.elements if tag == "section"}
    assert anchors.isdisjoint({"gallery", "confusion", "calibration", "faithfulness"})


def test_unfinished_runs_are_listed_and_left_out(tmp_path: Path) -> None:
    two_methods(tmp_path)
    make_run(tmp_path / "runs" / "stopped-run", "align", 7, is_done=False)
    _, page = report(tmp_path)
    assert "stopped-run" in page.text and str(State.INTERRUPTED) in page.text
    assert "seeds 0, 1;" in page.text, "and not 7"


def test_runs_that_differ_in_more_than_the_seed_are_pointed_out(tmp_path: Path) -> None:
    two_methods(tmp_path)
    assert differing_settings(read_runs([tmp_path])) == {}
    other = tmp_path / "runs" / "align-1" / "config.yaml"
    other.write_text(other.read_text().replace("0.5", "0.9"))
    assert list(differing_settings(read_runs([tmp_path])).values()) == [{"align.lambda3": ["0.5", "0.9"]}]
    _, page = report(tmp_path)
    assert "align.lambda3: 0.5 / 0.9" in page.text


def test_methods_of_unequal_budgets_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    two_methods(tmp_path)
    assert unequal_settings(read_runs([tmp_path])) == []
    for seed in (0, 1):
        with (tmp_path / "runs" / f"align-{seed}" / "config.yaml").open("a") as file:
            file.write("training: {length: 3 epochs, threads: 1}\nbenchmark: {root: a}\n")
        with (tmp_path / "runs" / f"erm-{seed}" / "config.yaml").open("a") as file:
            file.write("training: {length: 9 epochs, threads: 2}\nbenchmark: {root: b}\n")
    (line,) = unequal_settings(read_runs([tmp_path]))
    assert "training.length" in line and "9 epochs (erm)" in line


@pytest.mark.parametrize("section", ["protocol: {seed: %d}", "benchmark: {max_side: 9%d}"])
def test_methods_on_other_splits_or_pixels_are_told_apart(tmp_path: Path, section: str) -> None:
    two_methods(tmp_path)
    for value, method in enumerate(("align", "erm")):
        for seed in (0, 1):
            with (tmp_path / "runs" / f"{method}-{seed}" / "config.yaml").open("a") as file:
                file.write(section % value + "\n")
    (line,) = unequal_settings(read_runs([tmp_path]))
    assert section.partition(":")[0] in line and "(erm)" in line


def test_what_the_runs_ran_with_is_counted_and_not_confused_with_what_reports_them(tmp_path: Path) -> None:
    old = {"revision": "abc", "python": "3.10.1", "packages": {"torch": "2.0"}, "machine": "A, 8 of 8 cores"}
    new = old | {"packages": {"torch": "2.9"}}
    for seed, starts in enumerate(([old], [old, new], [new])):
        folder = make_run(tmp_path / f"run{seed}", "erm", seed)
        (folder / "environment.json").write_text(json.dumps(starts))
    (make_run(tmp_path / "run3", "erm", 3) / "environment.json").write_text("torn {")
    line = "code abc · Python 3.10.1 · torch {} · A, 8 of 8 cores"
    assert environments(read_runs([tmp_path])) == {line.format("2.0"): 2, line.format("2.9"): 2}
    write_report(read_runs([tmp_path]), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"<dt>{line.format('2.9')}</dt><dd>2 of 4 runs</dd>" in page


def test_no_finished_run_is_an_error_and_the_old_report_stays(tmp_path: Path) -> None:
    two_methods(tmp_path)
    before, _ = report(tmp_path)
    for mark in tmp_path.rglob("done"):
        mark.unlink()
    with raises(DataError, 4):
        report(tmp_path)
    assert (tmp_path / "report" / "index.html").read_text("utf-8") == before
    assert os.listdir(tmp_path / "report") == ["index.html"]


def test_a_missing_folder_is_made_and_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a", "erm", 0)
    (tmp_path / "file").write_text("not a folder")
    with raises(StorageError, tmp_path / "file" / "report.html"):
        write_report(read_runs([tmp_path / "runs"]), tmp_path / "file" / "report.html")
    (tmp_path / "taken.html").mkdir()
    with raises(StorageError, tmp_path / "taken.html"):
        write_report(read_runs([tmp_path / "runs"]), tmp_path / "taken.html")
    assert sorted(os.listdir(tmp_path)) == ["file", "runs", "taken.html"]
    write_report(read_runs([tmp_path / "runs"]), tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").stat().st_size > 0
