"""Submits the cells that have to run, each once, however many do this at the same time."""

from __future__ import annotations

import io
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from align_dist.cluster.grid import Cell
from align_dist.cluster.jobs import Submission, TrainJob, record_submission
from align_dist.cluster.resources import (
    MOST_IN_ARRAY,
    Resources,
    jobs_folder,
    local_executor,
    need_submitit,
    slurm_executor,
)
from align_dist.cluster.states import CellStatus, cell_statuses
from align_dist.errors import MachineError
from align_dist.files import locked
from align_dist.runs.provenance import code_identity, revision
from align_dist.runs.status import State

Say = Callable[[str], None]


def to_submit(cells: Sequence[Cell], statuses: Sequence[CellStatus], retry: bool) -> list[Cell]:
    """New and interrupted cells; failed ones with `retry`."""
    wanted = {State.NEW, State.INTERRUPTED, *([State.FAILED] if retry else [])}
    return [cell for cell, status in zip(cells, statuses, strict=True) if status.state in wanted]


def statuses(cells: Sequence[Cell]) -> list[CellStatus]:
    """How each cell stands."""
    return cell_statuses([cell.config for cell in cells])


def submit_to_slurm(cells: Sequence[Cell], resources: Resources, retry: bool, say: Say) -> int:
    """Submits what has to run as job arrays; returns how many jobs. Raises MachineError where Slurm refuses."""
    folder = _folder_of(cells)
    with _alone(folder, say):
        chosen = to_submit(cells, statuses(cells), retry)
        for start in range(0, len(chosen), MOST_IN_ARRAY):
            part = chosen[start : start + MOST_IN_ARRAY]
            executor = slurm_executor(folder, job_name(cells), resources)
            jobs = _submitted(executor, part)
            for cell, job in zip(part, jobs, strict=True):
                _record(cell, "slurm", job)
    return len(chosen)


def _submitted(executor: Any, cells: Sequence[Cell]) -> list[Any]:
    """The jobs, all of them or none."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    logging.getLogger("submitit").setLevel(logging.CRITICAL)  # it would say what the error below says
    try:
        with redirect_stderr(io.StringIO()), executor.batch():
            jobs = [executor.submit(job_of(cell)) for cell in cells]
    except (FailedJobError, FailedSubmissionError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise MachineError(f"Slurm took none of the {len(cells)} jobs: {reason}; mend that and submit again") from None
    return jobs


def run_here(cells: Sequence[Cell], resources: Resources, retry: bool, say: Say, look: Callable[[], None]) -> None:
    """Runs what has to run on this machine, at most `max_parallel` at a time, to the end.

    look: called once a second. After an interrupt the runs save and leave, as after any signal.
    """
    running: list[Any] = []
    try:
        for cell in cells:
            while len(running) >= resources.max_parallel:
                _pause(running, look)
            job = _start_here(cell, resources, retry, say)
            running += [] if job is None else [job]
        while running:
            _pause(running, look)
    except KeyboardInterrupt:
        say("submit: waiting for the runs to save; interrupt again to leave them")
        for job in running:
            job._process.terminate()  # the controller passes SIGTERM on to its tasks
        for job in running:
            job._process.wait()
        raise


def run_in_process(cells: Sequence[Cell], retry: bool, say: Say) -> int:
    """One after another, one rank each, in this process: where a debugger can follow. Returns how many failed."""
    executor, failed = need_submitit().DebugExecutor(_folder_of(cells)), 0
    for cell in to_submit(cells, statuses(cells), retry):
        say(f"submit: {cell.name} in this process")
        try:
            executor.submit(job_of(cell)).results()
        except SystemExit as left:
            say(f"submit: {cell.name} left with exit code {left.code}")
            failed += 1
    return failed


def job_of(cell: Cell) -> TrainJob:
    """What is pickled for a cell."""
    config = cell.config.model_dump(mode="json")
    return TrainJob(config, str(Path.cwd()), code_identity(), revision(), cell.share_warmup)


def job_name(cells: Sequence[Cell]) -> str:
    """As the queue shows them."""
    return f"align-{cells[0].config.experiment}"


def _folder_of(cells: Sequence[Cell]) -> Path:
    return jobs_folder(cells[0].config.runs, cells[0].config.experiment)


def _start_here(cell: Cell, resources: Resources, retry: bool, say: Say) -> Any:
    """The started job, or None where the cell no longer has to run."""
    folder = _folder_of([cell])
    with _alone(folder, say):
        if not to_submit([cell], statuses([cell]), retry):
            return None
        with _ignoring_interrupts():
            job = local_executor(folder, resources).submit(job_of(cell))
        _record(cell, "local", job)
    return job


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """What is started inside ignores Ctrl-C, as submitit's controller has to: it would kill its tasks after a second.
    We tell it to end them instead, and a run listens for itself.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _pause(running: list[Any], look: Callable[[], None]) -> None:
    time.sleep(1)
    running[:] = [job for job in running if job._process.poll() is None]
    look()


def _record(cell: Cell, cluster: str, job: Any) -> None:
    submission = Submission(
        cluster, job.job_id, str(job.paths.stdout), code_identity(), revision(), round(time.time(), 3)
    )
    record_submission(cell.config.folder, submission)


@contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    """While inside, nobody else submits this experiment."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".submitting", wait=False) as mine:
        if mine:
            yield
            return
    say("submit: another one submits this experiment, waiting for it")
    with locked(folder / ".submitting"):
        yield
