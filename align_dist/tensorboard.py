"""TensorBoard on the loopback, with runs under names that can be read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from align_dist.errors import DataError, MachineError
from align_dist.runs.folder import RunFolder, find_run_folders

EVERY = 5.0  # seconds between two looks for new runs


def show_tensorboard(places: Sequence[Path], port: int) -> None:
    """Serves the events of all runs among and below the places until Ctrl-C; runs that begin meanwhile appear.

    port: on 127.0.0.1; 0 for any free one. Raises DataError for a place that holds no run, MachineError where
    TensorBoard ends by itself.
    """
    find_run_folders(places)
    with TemporaryDirectory(prefix="align-dist-") as links:
        _link(places, Path(links))
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", links, "--host", "127.0.0.1"]
        server = subprocess.Popen([*command, "--port", str(port)])
        try:
            while True:
                try:
                    code = server.wait(EVERY)
                except subprocess.TimeoutExpired:
                    _link(places, Path(links))
                else:
                    raise MachineError(f"tensorboard ended with {code}; is port {port} free? name another with --port")
        finally:
            server.terminate()
            server.wait()


def readable_names(folders: Sequence[Path]) -> list[str]:
    """A name for each run folder: its own without the id, with it where two are alike, and its path where that is."""
    for names in (
        [folder.name.rpartition("-")[0] for folder in folders],
        [folder.name for folder in folders],
    ):
        if len(set(names)) == len(names):
            return names
    return [str(folder).strip("/").replace("/", " ") for folder in folders]


def _link(places: Sequence[Path], links: Path) -> None:
    """Links the events of runs that are not linked yet. A name once given stays."""
    try:
        folders = find_run_folders(places)
    except DataError:
        return  # the only run is being deleted
    known = {os.readlink(link) for link in links.iterdir()}
    for folder, name in zip(folders, readable_names(folders), strict=True):
        events = RunFolder(folder).events
        if str(events) not in known and events.is_dir():
            free = name if not (links / name).is_symlink() else str(folder).strip("/").replace("/", " ")
            os.symlink(events, links / free)
