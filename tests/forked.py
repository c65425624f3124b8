"""Processes that begin where `python` has imported torch and this package: most of the time of a short run is imports.

Each is forked from a server without threads that has done nothing but import; otherwise it is a process as any other,
with its own environment and signals. Tests of imports, and of what starts ranks itself, start `python`.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

IMPORTED = [
    "align_dist.run",
    "align_dist.data.loader",
    "matplotlib",
    "torch._dynamo",
    "torch.utils.tensorboard.writer",
]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(IMPORTED)


class Forked:
    """`python ARGUMENTS` with the methods of `subprocess.Popen` that tests use. Output is read once the process ended.

    together: whether errors go where the output goes. before: what the process does before all else.
    """

    def __init__(
        self,
        arguments: list[str],
        environment: Mapping[str, str] | None = None,
        together: bool = False,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("output", "output" if together else "errors")]
        around = dict(os.environ if environment is None else environment)
        self._process = CONTEXT.Process(target=_work, args=(arguments, around, self._files, before))
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # ended in between
            if self.poll() is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("forked", timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        output, errors = (file.read_text() if file.exists() else "" for file in self._files)
        return output, errors


def completed(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS`, ended."""
    process = Forked(list(arguments), environment)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.wait(), output, errors)


def on_a_full_disk() -> None:
    """No file of this process grows beyond 300 kB: a write that would fails in its middle, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _work(
    arguments: list[str], environment: dict[str, str], files: list[Path], before: Callable[[], None] | None
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if before is not None:
        before()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")
