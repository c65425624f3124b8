"""The report of real runs in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import browser, open_page, requests_of, run_script

from align_dist.config import RunConfig
from align_dist.report.html import write_report
from align_dist.report.rows import finished_rows, read_runs
from align_dist.run import train_run

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement


@pytest.fixture(scope="module")
def runs(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for method, seed in (("erm", 0), ("align", 0), ("align", 1)):
        config = squares.with_method(method).model_copy(update={"runs": folder, "seed": seed})
        train_run(config, lambda _: None)
    return folder


@pytest.fixture(scope="module")
def page(runs: Path) -> Path:
    write_report(read_runs([runs]), runs / "report.html")
    return runs / "report.html"


@pytest.fixture(scope="module")
def chrome(page: Path) -> Iterator[WebDriver]:
    with browser() as chrome:
        open_page(chrome, page)
        yield chrome


def all_of(chrome: WebDriver, css: str) -> list[WebElement]:
    return chrome.find_elements("css selector", css)


def test_the_page_asks_for_nothing_but_itself_and_the_console_stays_silent(chrome: WebDriver, page: Path) -> None:
    assert requests_of(chrome) == [page.as_uri()]
    assert chrome.get_log("browser") == []


def test_tables_show_the_results_and_a_header_sorts_them_by_keyboard(chrome: WebDriver, runs: Path) -> None:
    table = all_of(chrome, "#results table")[0]
    rows = {row[0]: row for line in table.find_elements("css selector", "tbody tr") if (row := line.text.split())}
    accuracies = {
        row.method: row.metrics["accuracy"]
        for row in finished_rows(read_runs([runs]))
        if (row.seed, row.selection, row.domain) == (0, "validation", "dark")
    }
    header = [name.text for name in table.find_elements("css selector", "th")]
    assert header[:3] == ["method", "seeds", "bright (in-domain)"]
    assert rows["erm"][3] == f"{100 * accuracies['erm']:.1f}"
    assert list(rows) == ["erm", "align"]
    button = table.find_element("css selector", "th button")
    button.send_keys("\ue007")  # Enter
    assert table.find_element("css selector", "th").get_attribute("aria-sort") == "descending"
    button.send_keys("\ue007")
    assert [line.text.split()[0] for line in table.find_elements("css selector", "tbody tr")] == ["align", "erm"]


def test_the_gallery_shows_both_methods_on_the_same_images_and_a_click_enlarges(chrome: WebDriver) -> None:
    rows = all_of(chrome, "#gallery .row")
    assert len(rows) >= 4
    for row in rows:
        captions = [caption.text for caption in row.find_elements("css selector", "figcaption")]
        assert [caption.split()[0] for caption in captions[1:]] == ["erm", "align"]
    images = all_of(chrome, "#gallery img")
    assert all(image.get_property("naturalWidth") > 32 for image in images)
    assert all(image.get_attribute("alt") for image in images)
    all_of(chrome, "#gallery .zoom")[1].send_keys("\ue007")
    dialog = chrome.find_element("id", "large")
    assert dialog.is_displayed()
    assert dialog.find_element("css selector", "img").get_attribute("src") == images[1].get_attribute("src")
    dialog.click()
    assert not dialog.is_displayed()


@pytest.mark.parametrize(
    ("section", "least"), [("results", 1), ("faithfulness", 1), ("calibration", 1), ("confusion", 2), ("training", 2)]
)
def test_every_plot_has_a_name_that_a_screen_reader_says(chrome: WebDriver, section: str, least: int) -> None:
    plots = all_of(chrome, f"#{section} svg")
    assert len(plots) >= least
    for plot in plots:
        assert plot.get_attribute("role") == "img" and "align" in plot.get_attribute("aria-label")


def test_the_end_of_warmup_and_weighted_terms_are_drawn(chrome: WebDriver) -> None:
    texts = [text.get_attribute("textContent") for text in all_of(chrome, "#training svg text")]
    assert {"validation/accuracy", "mask/area", "mask/binariness", "masker/sparsity", "classifier/guidance"} <= {*texts}


def test_a_missing_seed_is_listed(chrome: WebDriver) -> None:
    table = all_of(chrome, "#missing table")[0]
    assert [cell.text for cell in table.find_elements("css selector", "tbody td")][:1] == ["erm"]
    assert table.find_elements("css selector", "tbody td")[-1].text == "missing"


@pytest.mark.parametrize("width", [500, 900, 1600])
def test_no_width_makes_the_page_scroll_sideways(page: Path, width: int) -> None:
    with browser(width) as chrome:
        open_page(chrome, page)
        assert run_script(chrome, "return document.documentElement.scrollWidth <= window.innerWidth")
