"""TensorBoard on the loopback, with readable names of runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from align_dist.errors import CheckpointError, MachineError
from align_dist.runs.folder import RunFolder, find_run_folders

EVERY = 5.0  # seconds between two looks for new runs


def show_tensorboard(places: Sequence[Path], port: int) -> None:
    """Serve the events of all runs among and below the folders until Ctrl-C; new runs appear while serving.

    port: on 127.0.0.1; 0 for any free port. Raises CheckpointError for a folder without a run, MachineError where
    TensorBoard exits.
    """
    find_run_folders(places)
    with TemporaryDirectory(prefix="align-dist-") as links:
        _link(places, Path(links))
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", links, "--host", "127.0.0.1"]
        # The fast loader is a second server, asked through gRPC, which a cluster's proxy settings send elsewhere.
        command += ["--load_fast", "false", "--port", str(port)]
        server = subprocess.Popen(command)
        try:
            while True:
                try:
                    code = server.wait(EVERY)
                except subprocess.TimeoutExpired:
                    _link(places, Path(links))
                else:
                    raise MachineError(
                        f"tensorboard exited with code {code}; port {port} may be in use, choose another with --port"
                    )
        finally:
            server.terminate()
            server.wait()


def readable_names(folders: Sequence[Path]) -> list[str]:
    """Names of run folders: without the id; where two are equal, with the id; where two are still equal, the path."""
    for names in (
        [folder.name.rpartition("-")[0] or folder.name for folder in folders],
        [folder.name for folder in folders],
    ):
        if len(set(names)) == len(names):
            return names
    return [str(folder).strip("/").replace("/", " ") for folder in folders]


def _link(places: Sequence[Path], links: Path) -> None:
    """Link the events of new runs; existing names stay."""
    try:
        folders = find_run_folders(places)
    except CheckpointError:
        return  # the only run is being deleted
    known = {os.readlink(link) for link in links.iterdir()}
    for folder, name in zip(folders, readable_names(folders), strict=True):
        events = RunFolder(folder).events
        if str(events) not in known and events.is_dir():
            link_name = name if not (links / name).is_symlink() else str(folder).strip("/").replace("/", " ")
            os.symlink(events, links / link_name)
