"""The jobs that still exist, in Slurm's queue or as processes of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from align_dist.cluster.jobs import Submission
from align_dist.errors import MachineError, last_line

WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "SUSPENDED"}
# States that squeue shows for a moment after a job's end. A job that was preempted or lost its node is requeued.
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


@dataclass(frozen=True)
class QueuedJob:
    """A job in the queue. waiting: whether the job is not running, yet or again. reason: Slurm's word for why."""

    waiting: bool
    reason: str = ""


Queue = dict[tuple[str, str], QueuedJob]


def read_queue(submissions: Iterable[Submission]) -> Queue:
    """The submissions' jobs that exist, by cluster and id.

    Raises MachineError where Slurm does not answer: a queue that cannot be read is not an empty one.
    """
    known = {(submission.cluster, submission.job) for submission in submissions}
    queue = {key: QueuedJob(waiting=False) for key in known if key[0] == "local" and _is_running(key[1])}
    if any(cluster == "slurm" for cluster, _ in known):
        slurm_jobs = parse_queue(_squeue())
        queue |= {("slurm", job): queued for job, queued in slurm_jobs.items() if ("slurm", job) in known}
    return queue


def parse_queue(text: str) -> dict[str, QueuedJob]:
    """Jobs by id from lines `job|state|reason`, one for each element of an array."""
    jobs = {}
    for line in text.splitlines():
        job, state, reason = line.split("|", 2)
        if state.rstrip("+") not in ENDED:
            jobs[job] = QueuedJob(state in WAITING, "" if reason == "None" else reason)
    return jobs


def _squeue() -> str:
    command = ["squeue", "--noheader", "--array", "--format=%i|%T|%r"]
    if shutil.which(command[0]) is None:
        raise MachineError(
            "squeue: not found, and runs were submitted to Slurm; run this where Slurm's commands are installed"
        )
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    except subprocess.CalledProcessError as error:
        raise MachineError(f"squeue: {last_line(error.stderr)}; try again when Slurm answers") from None
    except subprocess.TimeoutExpired:
        raise MachineError("squeue: no answer in two minutes; try again when Slurm answers") from None


def _is_running(job: str) -> bool:
    """Return whether a process is one of submitit's controllers: the system reuses ids of dead processes."""
    try:
        os.kill(int(job), 0)
        command = Path(f"/proc/{job}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    return b"submitit" in command
