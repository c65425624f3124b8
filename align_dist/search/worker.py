"""A process of its own for one trial, or for one rank of it: `python -m align_dist.search.worker TASK`.

TASK is a JSON object (`Task`). Reports leave as JSON lines on what was standard output; everything else is said on
standard error. Standard input is never written to: that it ends tells that the parent is dead, or wants this process
to end, which then saves and leaves like any other run that got SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import IO, Any

from align_dist.config import RunConfig, parse_config
from align_dist.errors import NonFiniteError, UserError

GRACE = 60.0  # seconds for the end of a step and a checkpoint
HELD = 120.0  # seconds for the trial's previous process to end


@dataclass(frozen=True)
class Task:
    """config: of the run, as plain values. trunks: the experiment to share its warm-up in, None where it has none to
    share, or where that is done. passing: steps at which other trials branch off the same trunk. is_trunk: whether it
    is no trial but a trunk, up to training.until. faithful: whether explanations are measured.
    """

    config: dict[str, Any]
    trunks: str | None = None
    passing: tuple[int, ...] = ()
    is_trunk: bool = False
    faithful: bool = False

    def run(self) -> RunConfig:
        return parse_config(self.config)

    def text(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> Task:
        """What `text` wrote."""
        values = json.loads(text)
        return Task(**{**values, "passing": tuple(values["passing"])})


def main(arguments: list[str]) -> int:
    """Carries out a task; how it went is the exit code, as of `align-dist train`, and the folder's ended.json."""
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task = Task.read(arguments[0])
    try:
        carry_out_task(task, reports)
    except UserError as error:
        if not error.told_elsewhere:
            _say(str(error))
        _record(task, error.exit_code, str(error))
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        _record(task, 1, f"{type(error).__name__}: {error}")
        return 1
    return 0


def carry_out_task(task: Task, reports: IO[str]) -> None:
    """Trains what the task says and writes its reports. Raises what training raises."""
    from align_dist.search.outcome import Report
    from align_dist.search.trial import carry_out_trial
    from align_dist.search.trunk import begin_from_trunk, schedule_of

    config = task.run()
    _wait_until_free(config)
    if task.is_trunk:
        warm_up(config)
        return
    if task.trunks is not None:
        begin_from_trunk(config, task.trunks, train_trunk, _say, task.passing)
    length = schedule_of(config).length

    def tell(report: Report) -> None:
        # A scheduler could stop a trial upon its last report, just before it is done.
        if report.step < length:
            reports.write(json.dumps(asdict(report)) + "\n")

    carry_out_trial(config, tell, task.faithful, _say)


def warm_up(config: RunConfig) -> None:
    """Trains a trunk up to training.until, blind to targets. Raises what training raises."""
    from align_dist.run import carry_through

    carry_through(config, _say, lambda *_: None, sources_only=True)


def train_trunk(config: RunConfig, train: Callable[[RunConfig], None] = warm_up) -> None:
    """Trains a trunk. Raises NonFiniteError saying that it was in warm-up, at once for one that diverged before."""
    from align_dist.runs.folder import RunFolder

    before = RunFolder(config.folder).ending()
    try:
        if before is not None and before.error is NonFiniteError:
            raise NonFiniteError(before.reason)
        train(config)
    except NonFiniteError as error:
        raise NonFiniteError(f"in warm-up: {error}") from None


def _wait_until_free(config: RunConfig) -> None:
    """Until the process that had this trial before, which is ending, has let go of it."""
    from align_dist.runs.folder import RunFolder

    start, folder = time.monotonic(), RunFolder(config.folder)
    while folder.is_held() and time.monotonic() - start < HELD:
        time.sleep(0.2)


def _record(task: Task, exit_code: int, reason: str) -> None:
    """The reason in the run's folder, also where its training had not begun, as on a bad trunk."""
    from align_dist.parallel.ranks import find_ranks
    from align_dist.runs.folder import RunFolder

    if find_ranks(os.environ).rank == 0:
        RunFolder(task.run().folder).end_badly(exit_code, reason)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
