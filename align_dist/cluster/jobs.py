"""A submitted job: one cell's run under submitit, and the record of submissions in the run's folder."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from align_dist.errors import Preempted, UserError
from align_dist.files import read_records
from align_dist.runs.provenance import refuse_other_code

RECORD = "jobs.jsonl"
# Causes of a stop after which the job is requeued; SIGTERM and SIGINT mean that the job is to end.
REQUEUED = ("SIGUSR2", "time limit")


@dataclass(frozen=True)
class Submission:
    """One submission of a run. job: Slurm's id, or the controller's process id with cluster `local`. log: rank 0's."""

    cluster: str
    job: str
    log: str
    code: str
    revision: str
    time: float


def record_submission(folder: Path, submission: Submission) -> None:
    """Append to the run's record of submissions."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / RECORD).open("a") as file:
        file.write(json.dumps(asdict(submission)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def submissions_of(folder: Path) -> list[Submission]:
    """A run's submissions, the oldest first, without a line torn by a crash."""
    return read_records(folder / RECORD, Submission)


@dataclass(frozen=True)
class TrainJob:
    """The callable that submitit pickles and calls in every task: text and numbers only, with the code by reference.

    config: a run's config as plain values. directory: the base of relative paths. share_warmup: as in `Cell`.
    """

    config: dict[str, Any]
    directory: str
    code: str
    revision: str
    share_warmup: bool = False

    def __call__(self) -> str:
        """Train and evaluate the run from its last checkpoint, and exit with the error's exit code where that fails.

        After a signal from Slurm (before the time limit, or at preemption) the job goes back into the queue.
        """
        try:
            os.chdir(self.directory)
            refuse_other_code(self.code, self.revision)
            from align_dist.config import parse_config
            from align_dist.run import train_run

            return str(train_run(parse_config(self.config), share_warmup=self.share_warmup).path)
        except UserError as error:
            if not error.printed_by_another_rank:
                print(f"align-dist: {error}", file=sys.stderr, flush=True)
            if isinstance(error, Preempted) and error.cause in REQUEUED:
                return _requeue()
            raise SystemExit(error.exit_code) from None

    def checkpoint(self) -> Any:
        """The submission that submitit makes of a requeued job: the same job, which resumes from the run's folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _requeue() -> str:
    """Call submitit's own handler on rank 0, which requeues the job and does not return. The other ranks return: a rank
    that fails could end rank 0 as well.
    """
    handler = signal.getsignal(signal.SIGUSR2)
    if callable(handler):
        handler(signal.SIGUSR2, None)
    return "requeued"
