"""What Ray Tune runs for a trial: a process of its own, whose reports it passes on. Imported by Ray's workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from align_dist.config import RunConfig, parse_config
from align_dist.errors import is_resumable
from align_dist.parallel.ranks import Ranks
from align_dist.search.child import LOG, child, environment_of
from align_dist.search.job import Job, TrialLost, metrics_of
from align_dist.search.objective import is_faithful
from align_dist.search.outcome import OUTCOME, Report, read_reports
from align_dist.search.space import SearchConfig
from align_dist.search.worker import Task


def train_trial(config: dict[str, Any], job: Job) -> None:
    """Trains one trial as far as Ray lets it. What becomes of it stands in its folder.

    config: number, run and passing steps of the trial. Raises TrialLost where another start is worth it.
    """
    from ray import tune

    os.chdir(job.cwd)  # a path of a run is relative to where the search was started
    search = SearchConfig.model_validate(job.search)
    run = parse_config(config["run"])
    if search.ranks_per_trial > 1:
        from align_dist.search.ranks import train_on_ranks

        train_on_ranks(run, tuple(config["passing"]), search, job)
        return
    task = Task(
        run.model_dump(mode="json"),
        trunks=search.trunks if search.share_warmup else None,
        passing=tuple(config["passing"]),
        faithful=is_faithful(search.objective),
    )
    for report in _reports_of(task, run, max(1, int(search.cpus_per_trial)), Path(job.cwd)):
        tune.report(metrics_of(search, report))


def _reports_of(task: Task, run: RunConfig, threads: int, cwd: Path) -> Iterator[Report]:
    """Those of earlier starts, then those of this one. Raises TrialLost."""
    told = 0
    if (run.folder / OUTCOME).exists():
        return
    for report in read_reports(run.folder):
        told = report.step
        yield report
    environment = environment_of(os.environ, Ranks(), threads)
    with child(task, environment, cwd, run.folder / LOG) as process:
        for report in process.reports():
            if report.step > told:
                told = report.step
                yield report
        code = process.exit_code()
    if is_resumable(code):
        raise TrialLost(f"{run.folder}: its process ended with {code}; see {LOG} there")
