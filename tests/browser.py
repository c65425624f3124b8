"""A real browser without a window, for the tests of pages."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver


@contextmanager
def browser(width: int = 1280, height: int = 1000) -> Iterator[WebDriver]:
    """Debian's chromium, which records its console and every request. The test is skipped where none starts."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or program is None:
        pytest.skip("needs chromium and chromedriver: apt install chromium chromium-driver")
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", f"--window-size={width},{height}"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        # A proxy of the environment does not know this machine's loopback, where the driver listens.
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "localhost,127.0.0.1")
        try:
            chrome = Chrome(options=options, service=ChromeService(driver))
        except WebDriverException as error:
            pytest.skip(f"chromium does not start on this machine: {(error.msg or '').splitlines()[:1]}")
    try:
        yield chrome
    finally:
        chrome.quit()


def open_page(chrome: WebDriver, page: Path) -> None:
    chrome.get(page.resolve().as_uri())


def run_script(chrome: WebDriver, script: str) -> Any:
    """What a script returns in the page."""
    return chrome.execute_script(script)  # type: ignore[no-untyped-call]


def requests_of(chrome: WebDriver) -> list[str]:
    """Addresses of all requests so far, data inside the page left out."""
    import json

    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [address for address in sent if not address.startswith("data:")]


# Web components keep their texts in trees of their own, which `innerText` does not enter.
TEXTS = """
const texts = [];
function walk(node) {
  if (node.nodeType === Node.TEXT_NODE && node.textContent.trim()) texts.push(node.textContent.trim());
  if (["STYLE", "SCRIPT", "NOSCRIPT"].includes(node.nodeName)) return;
  if (node.shadowRoot) walk(node.shadowRoot);
  for (const child of node.childNodes) walk(child);
}
walk(document.body);
return texts;
"""


def wait_for_texts(chrome: WebDriver, wanted: set[str], seconds: int = 60) -> None:
    """Waits until the page shows all these texts. Fails with what is missing."""
    for _ in range(2 * seconds):
        missing = wanted - set(run_script(chrome, TEXTS))
        if not missing:
            return
        time.sleep(0.5)
    raise AssertionError(f"{chrome.current_url} lacks {sorted(missing)}")
