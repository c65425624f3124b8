"""A trial for Ray Tune: `align-dist train`, a process for each rank, whose validations go to schedulers."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
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
from align_dist.search.config import LOG, SearchConfig, scheduler_results

POLL = 0.5  # seconds
GRACE = 60.0  # seconds for the end of a step and a checkpoint
HELD = 120.0  # seconds for the trial's previous process to end
# What a launcher around Ray has set is about Ray's processes, not about a trial's.
OF_LAUNCHERS = (*TORCHRUN, *SLURM, *SUBMITIT, "SLURM_NTASKS", "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE")
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1


class TrialLost(Exception):
    """A trial's process was killed or lost a rank: Ray starts the trial again, from its last checkpoint."""


@dataclass(frozen=True)
class TrialTask:
    """A trial for a Ray process. arguments: of `align-dist train`. directory: what paths are relative to."""

    folder: Path
    arguments: tuple[str, ...]
    directory: str
    schedule: Schedule
    search: SearchConfig


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """A trial: a step is over with the next validation since guidance began. What becomes of the trial stands in its
    folder. Raises TrialLost where another start is worth it.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._task: TrialTask = config["task"]
        self._reported, self._stack = 0.0, ExitStack()
        os.chdir(self._task.directory)
        self._folder, start = RunFolder(self._task.folder), time.monotonic()
        while self._folder.is_locked() and time.monotonic() - start < HELD:
            time.sleep(POLL)
        self._folder.ended.unlink(missing_ok=True)  # of an earlier start: this one may end before it tells anything
        self._exit_code = self._stack.enter_context(ranks_at_work(self._task))

    def step(self) -> dict[str, Any]:
        task = self._task
        while True:
            code = self._exit_code()  # before its last words are read
            for result in scheduler_results(task.folder, task.schedule, task.search.objective):
                if result["step"] > self._reported:
                    self._reported = result["step"]
                    return result
            if code is not None:
                break
            time.sleep(POLL)
        self._stack.close()
        if is_resumable(code):
            raise TrialLost(f"{task.folder}: its process ended with {code}; see {LOG} there")
        if code and self._folder.ending() is None:  # what the process could not put on record
            self._folder.record_ending(code, "".join(last_lines(task.folder / LOG, 1))[:300])
        return {"done": True}

    def cleanup(self) -> None:
        self._stack.close()


@contextmanager
def ranks_at_work(task: TrialTask) -> Iterator[Callable[[], int | None]]:
    """A trial's ranks while inside, the first a process of this one, the others Ray's tasks with a process each; then
    all have been told to save. Gives the first one's exit code, None while it works, that of a lost rank where another
    one ended long before.
    """
    room = {"num_cpus": task.search.cpus_per_trial, "num_gpus": task.search.gpus_per_trial}
    first, *rest = _placed_ranks(task.search.ranks_per_trial)
    others, ends = [], list[float]()
    for ranks in rest:
        bundle = PlacementGroupSchedulingStrategy(ray.util.get_current_placement_group(), ranks.rank)
        remote = ray.remote(run_rank).options(max_retries=0, scheduling_strategy=bundle, **room)
        others.append(remote.remote(task, ranks))

    def exit_code() -> int | None:
        code = process.poll()
        if others and code is None and ray.wait(others, timeout=0)[0]:
            ends.append(time.monotonic())
        return LostRankError.exit_code if code is None and ends and ends[-1] - ends[0] > GRACE else code

    with process_of(task, first) as process:
        try:
            yield exit_code
        finally:
            for other in others:
                ray.cancel(other)


def _placed_ranks(count: int) -> list[Ranks]:
    """A rank for each bundle of this process's placement group, as torchrun would number them; the first is here."""
    if count == 1:
        return [Ranks()]
    bundles = placement_group_table(ray.util.get_current_placement_group())["bundles_to_node_id"]
    nodes = [bundles[number] for number in range(count)]
    place = ray.util.get_node_ip_address(), free_port()
    return [Ranks(rank, count, nodes[:rank].count(n), nodes.count(n), *place) for rank, n in enumerate(nodes)]


def run_rank(task: TrialTask, ranks: Ranks) -> None:
    """A rank other than the first, to its end; cancelling the task ends its process."""
    os.chdir(task.directory)
    with process_of(task, ranks) as process:
        while process.poll() is None:
            time.sleep(POLL)


@contextmanager
def process_of(task: TrialTask, ranks: Ranks) -> Iterator[subprocess.Popen[bytes]]:
    """A rank's process while inside; afterwards, and when this process dies, the rank's is told to save."""
    parent = os.getpid()

    def end_with_parent() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    with (task.folder / (f"rank-{ranks.rank}.log" if ranks.rank else LOG)).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "align_dist.cli", "train", *task.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment_of(os.environ, ranks, max(1, int(task.search.cpus_per_trial))),
            start_new_session=True,  # Ctrl-C is for the search, which tells its trials
            preexec_fn=end_with_parent,
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


def environment_of(around: Mapping[str, str], ranks: Ranks, threads: int) -> dict[str, str]:
    """A trial's environment: that around it, without other launchers' ranks, with its own if it has several."""
    environment = {name: value for name, value in around.items() if name not in OF_LAUNCHERS}
    package = str(Path(__file__).parents[2])
    paths = [package, *(path for path in around.get("PYTHONPATH", "").split(os.pathsep) if path)]
    environment |= {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "OMP_NUM_THREADS": str(threads)}
    if ranks.world_size == 1:
        return environment
    numbers = (ranks.rank, ranks.world_size, ranks.local_rank, ranks.local_world_size, ranks.address, ranks.port)
    return environment | dict(zip(TORCHRUN, map(str, numbers), strict=True))
