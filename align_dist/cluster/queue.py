"""Which jobs still exist: Slurm's queue, or this machine's processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from align_dist.cluster.jobs import Submission
from align_dist.errors import MachineError

WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "SUSPENDED"}
# Jobs that squeue shows for a moment after their end; one that was preempted or lost its node is requeued.
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


@dataclass(frozen=True)
class QueuedJob:
    """waiting: not running yet, or again. reason: why, in Slurm's word."""

    waiting: bool
    reason: str = ""


Queue = dict[tuple[str, str], QueuedJob]


def read_queue(submissions: Iterable[Submission]) -> Queue:
    """Those jobs of the submissions that exist, by cluster and id. Raises MachineError where Slurm does not answer:
    a queue that cannot be read is not an empty one.
    """
    known = {(told.cluster, told.job) for told in submissions}
    queue = {key: QueuedJob(waiting=False) for key in known if key[0] == "local" and _is_running(key[1])}
    if any(cluster == "slurm" for cluster, _ in known):
        everything = parse_queue(_squeue())
        queue |= {("slurm", job): found for job, found in everything.items() if ("slurm", job) in known}
    return queue


def parse_queue(text: str) -> dict[str, QueuedJob]:
    """Lines of `job|state|reason`, one for each element of an array."""
    found = {}
    for line in text.splitlines():
        job, state, reason = line.split("|", 2)
        if state.rstrip("+") not in ENDED:
            found[job] = QueuedJob(state in WAITING, "" if reason == "None" else reason)
    return found


def _squeue() -> str:
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r"]
    if shutil.which(command[0]) is None:
        raise MachineError("squeue: not found, and runs were submitted to Slurm; call this where Slurm's commands are")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    except subprocess.CalledProcessError as error:
        raise MachineError(f"squeue: {_last_line(error.stderr)}; call this again when Slurm answers") from None
    except subprocess.TimeoutExpired:
        raise MachineError("squeue: no answer in two minutes; call this again when Slurm answers") from None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["ended without a word"])[-1]


def _is_running(job: str) -> bool:
    """Whether that process is one of submitit's controllers: numbers of dead processes are given away again."""
    try:
        os.kill(int(job), 0)
        command = Path(f"/proc/{job}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    return b"submitit" in command
