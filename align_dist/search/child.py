"""The parent's side of a trial's process: start it, read its reports, and leave no process behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from align_dist.parallel.ranks import SLURM, SUBMITIT, TORCHRUN, Ranks
from align_dist.search.outcome import Report
from align_dist.search.worker import GRACE, Task

LOG = "trial.log"
# What a launcher around Ray has set is about Ray's processes, not about a trial's.
OF_LAUNCHERS = (*TORCHRUN, *SLURM, *SUBMITIT, "SLURM_NTASKS", "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE")


def environment_of(around: Mapping[str, str], ranks: Ranks, threads: int) -> dict[str, str]:
    """A trial's environment: that around it, without other launchers' ranks, with its own if it has several."""
    kept = {name: value for name, value in around.items() if name not in OF_LAUNCHERS}
    package = str(Path(__file__).parents[2])
    paths = [package, *(path for path in around.get("PYTHONPATH", "").split(os.pathsep) if path)]
    kept |= {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "OMP_NUM_THREADS": str(threads)}
    if ranks.world_size == 1:
        return kept
    numbers = (ranks.rank, ranks.world_size, ranks.local_rank, ranks.local_world_size, ranks.address, ranks.port)
    return kept | dict(zip(TORCHRUN, (str(number) for number in numbers), strict=True))


class Child:
    """A running task."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def reports(self) -> Iterator[Report]:
        """Its reports as they come, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                yield Report(**json.loads(line))
            except (ValueError, TypeError):
                continue  # half a line of a process that was killed

    def exit_code(self) -> int:
        """Waits for its end; negative after a signal that killed it."""
        return self._process.wait()


@contextmanager
def child(task: Task, environment: Mapping[str, str], cwd: Path, log: Path) -> Iterator[Child]:
    """A process at work on the task while inside; afterwards it is told to save, and is gone.

    log: the file that what it says is appended to.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "align_dist.search.worker", task.text()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=dict(environment),
            cwd=cwd,
            text=True,
            start_new_session=True,  # Ctrl-C is for the search, which tells its trials
        )
    try:
        yield Child(process)
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
