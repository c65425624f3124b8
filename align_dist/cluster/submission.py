"""Submission of the cells that have to run, each once, even where several users submit at the same time."""

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
from align_dist.errors import MachineError, last_line
from align_dist.files import locked
from align_dist.messages import Say
from align_dist.runs.provenance import code_identity, revision
from align_dist.runs.status import State


def to_submit(cells: Sequence[Cell], statuses: Sequence[CellStatus], retry: bool) -> list[Cell]:
    """The cells that are new, interrupted, or trained and to be measured, and with `retry` the failed ones."""
    startable = {State.NEW, State.INTERRUPTED, State.TRAINED, *([State.FAILED] if retry else [])}
    return [cell for cell, status in zip(cells, statuses, strict=True) if status.state in startable]


def statuses(cells: Sequence[Cell]) -> list[CellStatus]:
    """The status of each cell."""
    return cell_statuses([cell.config for cell in cells])


def submit_to_slurm(cells: Sequence[Cell], resources: Resources, retry: bool, say: Say) -> int:
    """Submit the cells that have to run as job arrays. Returns the number of jobs.

    Raises MachineError where Slurm refuses.
    """
    folder = _folder_of(cells)
    with _submission_lock(folder, say):
        pending = to_submit(cells, statuses(cells), retry)
        for start in range(0, len(pending), MOST_IN_ARRAY):
            part = pending[start : start + MOST_IN_ARRAY]
            executor = slurm_executor(folder, job_name(cells), resources)
            jobs = _submit(executor, part)
            for cell, job in zip(part, jobs, strict=True):
                _record(cell, "slurm", job)
    return len(pending)


def _submit(executor: Any, cells: Sequence[Cell]) -> list[Any]:
    """Submit all cells as one array, or none."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    logging.getLogger("submitit").setLevel(logging.CRITICAL)  # the error below has the same message
    try:
        with redirect_stderr(io.StringIO()), executor.batch():
            jobs = [executor.submit(job_of(cell)) for cell in cells]
    except (FailedJobError, FailedSubmissionError) as error:
        reason = last_line(str(error))
        raise MachineError(f"Slurm refused all {len(cells)} jobs: {reason}; correct this and submit again") from None
    return jobs


def run_here(cells: Sequence[Cell], resources: Resources, retry: bool, say: Say, refresh: Callable[[], None]) -> None:
    """Run the cells that have to run on this machine, at most `max_parallel` at a time, and wait for their end.

    refresh: called once a second. After an interrupt the runs save and end, as after any signal.
    """
    running: list[Any] = []
    try:
        for cell in cells:
            while len(running) >= resources.max_parallel:
                _pause(running, refresh)
            job = _start_here(cell, resources, retry, say)
            running += [] if job is None else [job]
        while running:
            _pause(running, refresh)
    except KeyboardInterrupt:
        say("submit: waiting for the runs to save; interrupt again to stop waiting")
        for job in running:
            job._process.terminate()  # the controller passes SIGTERM on to its tasks
        for job in running:
            job._process.wait()
        raise


def run_in_process(cells: Sequence[Cell], retry: bool, say: Say) -> int:
    """Run the cells in turn in this process, with one rank each, for a debugger. Returns the number of failures."""
    executor, failed = need_submitit().DebugExecutor(_folder_of(cells)), 0
    for cell in to_submit(cells, statuses(cells), retry):
        say(f"submit: {cell.name} in this process")
        try:
            executor.submit(job_of(cell)).results()
        except SystemExit as error:
            say(f"submit: {cell.name} ended with exit code {error.code}")
            failed += 1
    return failed


def job_of(cell: Cell) -> TrainJob:
    """The job of a cell, which submitit pickles."""
    config = cell.config.model_dump(mode="json")
    return TrainJob(config, str(Path.cwd()), code_identity(), revision(), cell.share_warmup)


def job_name(cells: Sequence[Cell]) -> str:
    """The name of the jobs in the queue."""
    return f"align-{cells[0].config.experiment}"


def _folder_of(cells: Sequence[Cell]) -> Path:
    return jobs_folder(cells[0].config.runs, cells[0].config.experiment)


def _start_here(cell: Cell, resources: Resources, retry: bool, say: Say) -> Any:
    """Start a cell's job on this machine. Returns None where the cell no longer has to run."""
    folder = _folder_of([cell])
    with _submission_lock(folder, say):
        if not to_submit([cell], statuses([cell]), retry):
            return None
        with _ignoring_interrupts():
            job = local_executor(folder, resources).submit(job_of(cell))
        _record(cell, "local", job)
    return job


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Make processes that are started inside ignore Ctrl-C: submitit's controller would kill its tasks after a second.

    `run_here` ends the controllers instead, and each run handles signals itself.
    """
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _pause(running: list[Any], refresh: Callable[[], None]) -> None:
    """Wait a second, and remove the jobs that have ended."""
    time.sleep(1)
    running[:] = [job for job in running if job._process.poll() is None]
    refresh()


def _record(cell: Cell, cluster: str, job: Any) -> None:
    submission = Submission(
        cluster, job.job_id, str(job.paths.stdout), code_identity(), revision(), round(time.time(), 3)
    )
    record_submission(cell.config.folder, submission)


@contextmanager
def _submission_lock(folder: Path, say: Say) -> Iterator[None]:
    """Hold the lock of an experiment's submissions, and wait where another process holds the lock."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".submitting", wait=False) as has_lock:
        if has_lock:
            yield
            return
    say("submit: waiting for another submission of this experiment")
    with locked(folder / ".submitting"):
        yield
