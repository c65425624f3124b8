"""Ray for the time of a search: one of its own on the loopback, or one that is there."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import util
from tempfile import TemporaryDirectory

import psutil

from align_dist.errors import MachineError
from align_dist.machine import available_cores

PATIENCE = 180.0  # seconds for a cluster that is being started
SERVERS = ("gcs_server", "raylet")
OBJECT_STORE = 100 * 2**20  # bytes: what trials tell is small
# Set for this process and what it starts; what the user has set stays.
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # By SIGKILL: a trial ends by itself when its parent does, and saves before.
    "RAY_kill_child_processes_on_worker_exit": "0",
    # A search goes on from its run folders; signals are its own business, and so are event files.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A trial may fail before it has anything to report.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


@contextmanager
def ray_running(address: str | None, nodes: int, lost: Callable[[str], None]) -> Iterator[None]:
    """Ray while inside. address: of a cluster that runs, whose token is in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH or
    Ray's own file; None starts one on this machine that nobody else can talk to. nodes: how many the cluster is waited
    for to have, 0 for as it is. lost: told, in another thread, which process of a Ray of its own is gone; without Ray
    this process waits for a minute in Ray's code and is then ended by it, so `lost` had better do that.

    Raises MachineError.
    """
    if util.find_spec("ray") is None:
        raise MachineError("ray is not installed, which searches need: bash launch/install.sh ffcv,embedded,lite0,tune")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ["RAY_AUTH_TOKEN"] = _own_token()
    import ray

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as scratch:
        try:
            _start(address, nodes, scratch)
            with _watching(_own_processes() if address is None else [], lost):
                yield
        finally:
            ray.shutdown()


def _own_processes() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if process.name() in SERVERS]


@contextmanager
def _watching(servers: list[psutil.Process], lost: Callable[[str], None]) -> Iterator[None]:
    names, leaving = {server: server.name() for server in servers}, threading.Event()

    def watch() -> None:
        while not leaving.wait(0.5):
            gone = [server for server in servers if not _lives(server)]
            if gone and not leaving.is_set():
                for server in set(servers) - set(gone):
                    with suppress(psutil.NoSuchProcess):
                        server.kill()  # with it go its workers, whose trials then save
                lost(names[gone[0]])
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        leaving.set()
        watching.join()


def _lives(server: psutil.Process) -> bool:
    try:
        return server.is_running() and bool(server.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@cache
def _own_token() -> str:
    """One a process: Ray reads it once, and would not let itself in with the next."""
    return secrets.token_hex(32)


def _start(address: str | None, nodes: int, scratch: str) -> None:
    import ray

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        store = {"num_cpus": available_cores(), "object_store_memory": OBJECT_STORE, "_temp_dir": scratch}
        ray.init("local", _node_ip_address="127.0.0.1", **store, **quiet)  # whatever RAY_ADDRESS is
        return
    end = time.monotonic() + (PATIENCE if nodes else 0)
    while not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except Exception as error:  # Ray raises a dozen kinds
            if time.monotonic() > end:
                reason = " ".join(str(error).split())[:200]
                asked = "does it run there, and is its token in RAY_AUTH_TOKEN?"
                raise MachineError(f"--ray-address {address}: no Ray lets us in; {asked} Ray says: {reason}") from None
            time.sleep(2)
    while (there := sum(node["Alive"] for node in ray.nodes())) < nodes:
        if time.monotonic() > end:
            raise MachineError(f"--ray-address {address}: {there} of {nodes} nodes after {PATIENCE:g} s; look there")
        time.sleep(1)
