"""Ray for the time of a search: one of its own on the loopback, or one that is there."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import util
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory

import psutil

from align_dist.errors import LostRankError, MachineError, first_line, missing_package
from align_dist.machine import available_cores

PATIENCE = 180.0  # seconds for a cluster that is being started
SERVERS = ("gcs_server", "raylet")
STARTS = 3  # of Ray, which gives itself half a minute: too little on a machine with other work
OBJECT_STORE = 100 * 2**20  # bytes: what trials tell is small
SHARED_MEMORY = Path("/dev/shm")
# Characters of a folder for Ray's: a socket's path has 107 at most, and Ray adds up to 77 of its own.
LONGEST_SCRATCH = 30
TOKEN = secrets.token_hex(32)  # one a process: Ray reads it once, and would not let itself in with the next
QUIET = {"log_to_driver": False, "logging_level": logging.CRITICAL}
# Set for this process and what it starts; what the user has set stays.
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
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


def check_package(name: str) -> None:
    """Raise MachineError where a package that searches need is not installed. Does not import the package."""
    if util.find_spec(name) is None:
        raise missing_package(name, "a search", "tune")


@contextmanager
def ray_running(address: str | None, nodes: int) -> Iterator[None]:
    """Ray while inside. When a server of a Ray of its own is killed, this process ends at once with one line.

    address: of a cluster that runs, whose token is in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH or Ray's own file; None
    starts one on this machine that nobody else can talk to. nodes: how many the cluster is waited for to have, 0 for as
    it is. Raises MachineError.
    """
    check_package("ray")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ["RAY_AUTH_TOKEN"] = TOKEN
    import ray  # not before: Ray reads its settings once

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    place = scratch_place([os.environ.get("TMPDIR") or "/tmp", "/tmp", "/var/tmp"])
    with TemporaryDirectory(prefix="ray-", dir=place, ignore_cleanup_errors=True) as scratch:
        try:
            if address is None:
                _start(scratch)
                with _watching():
                    yield
            else:
                _join(address, nodes)
                yield
        finally:
            ray.shutdown()


def scratch_place(places: Sequence[str]) -> str:
    """The first of these folders that is writable and has a path short enough for Ray's sockets.

    Raises MachineError where none is.
    """
    for place in places:
        if len(place) <= LONGEST_SCRATCH and os.access(place, os.W_OK | os.X_OK):
            return place
    wanted = f"Ray's sockets take a writable folder whose path has {LONGEST_SCRATCH} characters at most"
    raise MachineError(f"TMPDIR: {wanted}, and {', '.join(places)} is none; set TMPDIR to one")


def _start(scratch: str) -> None:
    """Start Ray on this machine, whatever RAY_ADDRESS is; objects lie in `scratch` where shared memory is short."""
    import ray

    room = disk_usage(SHARED_MEMORY).free if os.access(SHARED_MEMORY, os.W_OK) else 0
    store = {"object_store_memory": OBJECT_STORE, "_plasma_directory": None if room > OBJECT_STORE else scratch}
    own = {"_node_ip_address": "127.0.0.1", "_temp_dir": scratch, "num_cpus": available_cores()}
    for left in reversed(range(STARTS)):
        try:
            ray.init("local", include_dashboard=False, **own, **store, **QUIET)
            return
        except Exception as error:  # Ray raises a dozen kinds
            _end(_servers())
            if not left:
                why = f"ray does not start on this machine, the same command tries again: {first_line(error)}"
                raise MachineError(why) from None


def _servers() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if process.name() in SERVERS]


def _join(address: str, nodes: int) -> None:
    """Join a cluster, once it lets this process in and has so many nodes."""
    import ray

    end, reason, there = time.monotonic() + (PATIENCE if nodes else 0), "no Ray lets us in", 0
    while True:
        try:
            ray.is_initialized() or ray.init(address=address, **QUIET)
            there = sum(node["Alive"] for node in ray.nodes())
            reason = f"{there} of {nodes} nodes"
        except Exception as error:
            reason = f"no Ray lets us in; is its token in RAY_AUTH_TOKEN? Ray says: {first_line(error)}"
        if ray.is_initialized() and there >= nodes:
            return
        if time.monotonic() > end:
            raise MachineError(f"--ray-address {address}: {reason}; look there")
        time.sleep(2)


def _end(servers: Sequence[psutil.Process]) -> None:
    for server in servers:
        with suppress(psutil.NoSuchProcess):
            server.kill()
    psutil.wait_procs(servers, timeout=10)


@contextmanager
def _watching() -> Iterator[None]:
    """Looks after Ray's servers while inside. When one is gone, the others are ended, and with them their workers,
    whose trials then save; this process would wait for a minute in Ray's code and be ended there.
    """
    servers, leaving = _servers(), threading.Event()
    names = {server: server.name() for server in servers}

    def watch() -> None:
        dead: list[psutil.Process] = []
        while not dead and not leaving.is_set():
            dead, left = psutil.wait_procs(servers, timeout=0.5)
        if leaving.is_set():
            return
        _end(left)
        line = f"tune.py: Ray's {names[dead[0]]} was killed; trials save, run the same command again to resume"
        print(line, file=sys.stderr, flush=True)
        os._exit(LostRankError.exit_code)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        leaving.set()
        watching.join()
