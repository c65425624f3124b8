"""What Ray Tune runs for a trial: `align-dist train` in a process of its own for each rank, whose validations it reports.

Light to import: Ray's processes load no torch.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.placement_group import placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from align_dist.errors import LostRankError, is_resumable
from align_dist.files import last_lines
from align_dist.parallel.local import free_port
from align_dist.parallel.ranks import SLURM, SUBMITIT, TORCHRUN, Ranks
from align_dist.runs.folder import RunFolder
from align_dist.schedule import Schedule
from align_dist.search.config import LOG, Objective, read_validations, results_of

POLL = 0.5  # seconds
GRACE = 60.0  # seconds for the end of a step and a checkpoint
HELD = 120.0  # seconds for the trial's previous process to end
# What a launcher around Ray has set is about Ray's processes, not about a trial's.
OF_LAUNCHERS = (*TORCHRUN, *SLURM, *SUBMITIT, "SLURM_NTASKS", "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class TrialLost(Exception):
    """A trial's process was killed or lost a rank: Ray starts the trial again, from its last checkpoint."""


@dataclass(frozen=True)
class TrialTask:
    """A trial as a Ray process is told of it. arguments: of `align-dist train`. directory: what relative paths are
    relative to. cpus, gpus: of each rank.
    """

    folder: Path
    arguments: tuple[str, ...]
    directory: str
    ranks: int
    cpus: float
    gpus: float
    schedule: Schedule
    objective: Objective


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """A trial: a step is over with the next validation since guidance began. What becomes of the trial stands in its
    folder. Raises TrialLost where another start is worth it.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._task: TrialTask = config["task"]
        self._reported = 0
        self._stack = ExitStack()
        os.chdir(self._task.directory)
        folder = RunFolder(self._task.folder)
        if folder.trained_steps() is not None:
            self._ranks = None
            return
        start = time.monotonic()
        while folder.is_held() and time.monotonic() - start < HELD:
            time.sleep(POLL)
        folder.ended.unlink(missing_ok=True)  # of an earlier start, or this one could not tell its own
        self._ranks = self._stack.enter_context(ranks_at_work(self._task))

    def step(self) -> dict[str, Any]:
        task = self._task
        while True:
            code = 0 if self._ranks is None else self._ranks.exit_code()  # before what it left is read
            validations = read_validations(task.folder, task.schedule, task.objective)
            if validations and validations[-1].step > self._reported:
                results = results_of(validations, task.schedule, task.objective)
                result = next(result for result in results if result["step"] > self._reported)
                self._reported = int(result["step"])
                return result
            if code is not None:
                self._stack.close()
                _check_ending(task.folder, code)
                return {"done": True}
            time.sleep(POLL)

    def cleanup(self) -> None:
        self._stack.close()


def _check_ending(folder: Path, code: int) -> None:
    """Puts on record what the process could not. Raises TrialLost."""
    if is_resumable(code):
        raise TrialLost(f"{folder}: its process ended with {code}; see {LOG} there")
    run = RunFolder(folder)
    if code and run.ending() is None:
        run.end_badly(code, (last_lines(folder / LOG, 1) or [f"ended with {code}"])[0][:300])


class RanksAtWork:
    """A trial's ranks: the first a process of this one, the others Ray's tasks with a process each."""

    def __init__(self, process: subprocess.Popen[bytes], others: list[Any]) -> None:
        self._process, self._others = process, others
        self._deadline: float | None = None

    def exit_code(self) -> int | None:
        """Of the first rank, None while it works; that of a lost rank where it does not end after another one did."""
        code = self._process.poll()
        if code is None and self._others and ray.wait(self._others, timeout=0)[0]:
            self._deadline = self._deadline or time.monotonic() + GRACE
            if time.monotonic() > self._deadline:
                return LostRankError.exit_code
        return code


@contextmanager
def ranks_at_work(task: TrialTask) -> Iterator[RanksAtWork]:
    """The ranks of a trial while inside; afterwards each has been told to save, and the first is gone."""
    first, *rest = _placed_ranks(task)
    others = [_start_elsewhere(task, ranks) for ranks in rest]
    with process_of(task, first) as process:
        try:
            yield RanksAtWork(process, others)
        finally:
            for other in others:
                ray.cancel(other)


def _placed_ranks(task: TrialTask) -> list[Ranks]:
    """One rank for each bundle of the trial's placement group, as torchrun would number them; the first is here."""
    if task.ranks == 1:
        return [Ranks()]
    bundles = placement_group_table(ray.util.get_current_placement_group())["bundles_to_node_id"]
    nodes = [bundles[number] for number in range(task.ranks)]
    address, port = ray.util.get_node_ip_address(), free_port()
    return [
        Ranks(rank, task.ranks, nodes[:rank].count(node), nodes.count(node), address, port)
        for rank, node in enumerate(nodes)
    ]


def _start_elsewhere(task: TrialTask, ranks: Ranks) -> Any:
    bundle = PlacementGroupSchedulingStrategy(ray.util.get_current_placement_group(), ranks.rank)
    options = {"num_cpus": task.cpus, "num_gpus": task.gpus, "max_retries": 0, "scheduling_strategy": bundle}
    return ray.remote(run_rank).options(**options).remote(task, ranks)


def run_rank(task: TrialTask, ranks: Ranks) -> int:
    """A rank other than the first, to its end; cancelling the task ends its process."""
    os.chdir(task.directory)
    with process_of(task, ranks) as process:
        while process.poll() is None:
            time.sleep(POLL)
    return int(process.returncode)


@contextmanager
def process_of(task: TrialTask, ranks: Ranks) -> Iterator[subprocess.Popen[bytes]]:
    """A rank's process while inside; afterwards the process has been told to save, and is gone."""
    log = task.folder / (LOG if ranks.rank == 0 else f"rank-{ranks.rank}.log")
    parent = os.getpid()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "align_dist.cli", "train", *task.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment_of(os.environ, ranks, max(1, int(task.cpus))),
            start_new_session=True,  # Ctrl-C is for the search, which tells its trials
            preexec_fn=lambda: _end_with(parent),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with(parent: int) -> None:
    """Has the kernel send this process SIGTERM when its parent is gone (prctl(2))."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


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
