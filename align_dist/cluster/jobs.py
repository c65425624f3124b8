"""What a submitted job is: one cell's run under submitit, and the record of its submissions in the run's folder."""

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
# What asks for a stop and wants the job back; after SIGTERM or SIGINT somebody wants it gone.
REQUEUED = ("SIGUSR2", "time limit")


@dataclass(frozen=True)
class Submission:
    """One submission of a run. job: Slurm's id, or the controller's process id with cluster `local`. log: of rank 0."""

    cluster: str
    job: str
    log: str
    code: str
    revision: str
    time: float


def record_submission(folder: Path, submission: Submission) -> None:
    """Appends to the run's record of submissions."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / RECORD).open("a") as file:
        file.write(json.dumps(asdict(submission)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def submissions_of(folder: Path) -> list[Submission]:
    """A run's submissions, oldest first; a line torn by a crash is left out."""
    return read_records(folder / RECORD, Submission)


@dataclass(frozen=True)
class TrainJob:
    """What submitit pickles and calls in every task: text and numbers alone, the code comes by reference.

    config: a run's description as plain values. directory: where its relative paths begin. share_warmup: as of a cell.
    """

    config: dict[str, Any]
    directory: str
    code: str
    revision: str
    share_warmup: bool = False

    def __call__(self) -> str:
        """Trains and evaluates the run from where its folder says it is; ends with its exit code where it cannot.

        After a signal of Slurm's (before a time limit, or preemption) the job goes back into the queue.
        """
        try:
            os.chdir(self.directory)
            refuse_other_code(self.code, self.revision)
            from align_dist.config import parse_config
            from align_dist.run import train_run

            return str(train_run(parse_config(self.config), share_warmup=self.share_warmup).path)
        except UserError as error:
            if not error.printed_elsewhere:
                print(f"align-dist: {error}", file=sys.stderr, flush=True)
            if isinstance(error, Preempted) and error.cause in REQUEUED:
                return _requeue()
            raise SystemExit(error.exit_code) from None

    def checkpoint(self) -> Any:
        """submitit's way to say what a requeued job does: the same, from what the run's folder holds then."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _requeue() -> str:
    """Rank 0 hands over to submitit's own handler, which requeues and does not return; the others leave quietly,
    since one that ends badly could take rank 0 with it.
    """
    handler = signal.getsignal(signal.SIGUSR2)
    if callable(handler):
        handler(signal.SIGUSR2, None)
    return "requeued"
