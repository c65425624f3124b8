"""A real Slurm of two nodes on this machine, for the tests that submit jobs, and how they look at it.

`tests/conftest.py` has the fixture `slurm`; the functions here talk to the cluster that it started.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
SCRIPT = CHECKOUT / "slurm" / "local_cluster.sh"
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL"}


def obstacle() -> str | None:
    """Why this machine can have no Slurm of its own, if so."""
    if os.geteuid() != 0:
        return "a local Slurm needs root"
    if not shutil.which("slurmctld") and not shutil.which("apt-get"):
        return "a local Slurm needs Debian's packages, and there is no apt-get"
    return None


def local_cluster(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One verb of slurm/local_cluster.sh."""
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=180
    )


@contextmanager
def cluster(nodes: int = 2) -> Iterator[Path]:
    """A cluster's folder while it runs; a SIGTERM to the tests ends it too."""
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM", returncode=143))
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # short: Unix sockets lie below it
    try:
        started = local_cluster("start", "--dir", folder, "--nodes", str(nodes))
        assert started.returncode == 0, started.stderr
        yield folder
    finally:
        stopped = local_cluster("stop", "--dir", folder)
        assert stopped.returncode == 0, stopped.stderr
        shutil.rmtree(folder)
        signal.signal(signal.SIGTERM, before)


def output_of(*command: str | Path, cwd: Path | None = None) -> str:
    """What one of Slurm's commands prints; fails where it fails."""
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=cwd, timeout=60)
    assert process.returncode == 0, (command, process.stderr)
    return process.stdout.strip()


def sbatch(*arguments: str | Path, cwd: Path) -> str:
    """The number of the job that `sbatch ARGUMENTS` makes in that folder."""
    return output_of("sbatch", "--parsable", *arguments, cwd=cwd)


def state_of(job: str) -> str:
    """A job's state by squeue, which knows ended jobs too (MinJobAge); job: also one task of an array, 12_0."""
    return output_of("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")


def restarts_of(job: str) -> int:
    """How often a job was requeued."""
    fields = output_of("scontrol", "--oneliner", "show", "job", job).split()
    return next(int(field.removeprefix("Restarts=")) for field in fields if field.startswith("Restarts="))


def wait_until(condition: Callable[[], bool], seconds: float, describe: Callable[[], str]) -> None:
    """Until a condition holds; fails with a description of where things stand when it is late."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not after {seconds:g} s: {describe()}"
        time.sleep(0.1)


def wait_for_state(job: str, *states: str, output: Path | None = None, seconds: float = 120) -> str:
    """Until a job is in one of the states; fails at once when it ended in another one."""

    def arrived() -> bool:
        state = state_of(job)
        assert state in states or state not in ENDED - {"NODE_FAIL"}, f"{state}: {text_of(output)}"
        return state in states

    wait_until(arrived, seconds, lambda: f"job {job} is {state_of(job)}: {text_of(output)}")
    return state_of(job)


def text_of(output: Path | None) -> str:
    return output.read_text() if output is not None and output.exists() else "(no output)"


def recorded(job: str) -> dict[str, tuple[str, str]]:
    """State and exit code by sacct of an ended job and its steps: `{"12": ("FAILED", "2:0"), "12.0": …}`."""

    def rows() -> dict[str, tuple[str, str]]:
        printed = output_of("sacct", "--noheader", "--parsable2", "--format=JobID,State,ExitCode", f"--jobs={job}")
        records = (line.split("|") for line in printed.splitlines())
        return {name: (state.split()[0], code) for name, state, code in records}

    # The accounting is some seconds late.
    wait_until(lambda: rows().get(job, ("",))[0] in ENDED, 30, lambda: str(rows()))
    return rows()


def wait_for_step(folder: Path, step: int, output: Path) -> None:
    """Until rank 0 of the run in that folder has logged `step`."""
    metrics = folder / "metrics.jsonl"

    def arrived() -> bool:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        return any(json.loads(line)["step"] >= step for line in lines if line.endswith("}"))

    wait_until(arrived, 120, lambda: text_of(output))
