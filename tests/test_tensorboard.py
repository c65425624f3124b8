"""`align-dist monitor`: TensorBoard itself is asked what it shows."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest
from browser import browser, wait_for_texts

from align_dist.config import RunConfig
from align_dist.errors import CheckpointError
from align_dist.run import train_run
from align_dist.tensorboard import readable_names, show_tensorboard


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["a/x-erm-seed0-11111111"], ["x-erm-seed0"]),
        (["a/renamed"], ["renamed"]),
        (["a/x-erm-seed0-11111111", "a/x-align-seed0-22222222"], ["x-erm-seed0", "x-align-seed0"]),
        (["a/x-erm-seed0-11111111", "a/x-erm-seed0-22222222"], ["x-erm-seed0-11111111", "x-erm-seed0-22222222"]),
        (["a/x-erm-seed0-11111111", "b/x-erm-seed0-11111111"], ["a x-erm-seed0-11111111", "b x-erm-seed0-11111111"]),
    ],
)
def test_names_are_as_short_as_they_can_be(folders: list[str], names: list[str]) -> None:
    assert readable_names([Path(folder) for folder in folders]) == names


def test_a_place_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        show_tensorboard([tmp_path], 0)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def asked(port: int, path: str) -> Any:
    # A proxy of the environment does not know this machine's loopback.
    with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/data/{path}", timeout=10) as answer:
        return json.load(answer)


def test_runs_and_those_that_begin_later_are_served_on_the_loopback(squares: RunConfig, tmp_path: Path) -> None:
    first = train_run(squares.model_copy(update={"runs": tmp_path / "made"}), lambda _: None).path
    shutil.copytree(first, tmp_path / "runs" / first.name)
    port = free_port()
    command = [sys.executable, "-m", "align_dist.cli", "monitor", str(tmp_path / "runs"), "--port", str(port)]
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(command, stderr=output)
    try:
        name = readable_names([first])[0]
        wait_for_runs(port, {name}, process, log)
        tags = asked(port, "plugin/scalars/tags")[name]
        assert {"classifier/loss", "mask/area", "validation/accuracy"} <= tags.keys()
        layout = asked(port, "plugin/custom_scalars/layout")
        charts = {chart["title"]: chart for category in layout["category"] for chart in category["chart"]}
        assert {"classifier", "masker", "accuracy", "images a second"} <= charts.keys()
        shows_in_browser(port, name)
        later = first.name.replace("seed0", "seed1")
        shutil.copytree(first, tmp_path / "runs" / later)
        wait_for_runs(port, {name, name.replace("seed0", "seed1")}, process, log)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    with pytest.raises(URLError):
        asked(port, "runs")


def shows_in_browser(port: int, name: str) -> None:
    """The tabs that answer questions: custom scalars by network, and the method's own options with final results."""
    with browser() as chrome:
        chrome.get(f"http://127.0.0.1:{port}/#custom_scalars")
        wait_for_texts(chrome, {"losses", "classifier", "masker", f"classifier/guidance ({name})"})
        chrome.get(f"http://127.0.0.1:{port}/#hparams")
        chrome.refresh()
        wait_for_texts(chrome, {"align.lambda1", "align.lambda3", "final/accuracy/dark", "Trial ID"})


def wait_for_runs(port: int, names: set[str], process: subprocess.Popen[bytes], log: Path) -> None:
    shown: Any = None
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            shown = asked(port, "runs")
            if names <= set(shown):
                return
        except URLError as error:
            shown = error
        time.sleep(0.5)
    raise AssertionError(f"TensorBoard showed {shown}, expected {names}: {log.read_text()}")
