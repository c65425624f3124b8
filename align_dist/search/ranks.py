"""A trial on several ranks: Ray Train places them and lets them meet, each is a process of its own as ever."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from align_dist.config import RunConfig
from align_dist.errors import UserError, is_resumable
from align_dist.parallel.ranks import Ranks
from align_dist.runs.folder import RunFolder
from align_dist.search.child import LOG, child, environment_of
from align_dist.search.job import Job, TrialLost, metrics_of
from align_dist.search.objective import is_faithful
from align_dist.search.outcome import OUTCOME, read_reports
from align_dist.search.space import SearchConfig
from align_dist.search.worker import Task, train_trunk


def train_on_ranks(run: RunConfig, passing: tuple[int, ...], search: SearchConfig, job: Job) -> None:
    """A trial within a Tune function: its trunk, then itself, each over all ranks. Raises TrialLost."""
    from ray import tune

    from align_dist.search.trunk import begin_from_trunk

    if (run.folder / OUTCOME).exists():
        return
    earlier = read_reports(run.folder)
    for report in earlier:
        tune.report(metrics_of(search, report))
    try:
        if search.share_warmup:
            begin_from_trunk(
                run, search.trunks, lambda trunk: train_trunk(trunk, lambda t: _warm_up(t, search, job)), print, passing
            )
        task = Task(run.model_dump(mode="json"), faithful=is_faithful(search.objective))
        _fit(task, run, search, job, earlier[-1].step if earlier else 0)
    except UserError as error:
        if error.resumable:
            raise TrialLost(str(error)) from None
        RunFolder(run.folder).end_badly(error.exit_code, str(error))


def _warm_up(trunk: RunConfig, search: SearchConfig, job: Job) -> None:
    """Trains a trunk over ranks. Raises what its folder says that it ended with."""
    _fit(Task(trunk.model_dump(mode="json"), is_trunk=True), trunk, search, job, 0)
    ending = RunFolder(trunk.folder).ending()
    if ending is not None:
        raise ending.error(ending.reason)


def _fit(task: Task, run: RunConfig, search: SearchConfig, job: Job, told: int) -> None:
    """Starts the ranks and waits for them; what rank 0 reports goes to Tune. Raises TrialLost."""
    from ray.train import FailureConfig, ScalingConfig
    from ray.train import RunConfig as TrainRun
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError
    from ray.tune.integration.ray_train import TuneReportCallback

    resources = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
    trainer = DataParallelTrainer(
        rank_of_trial,
        train_loop_config={
            "task": task.text(),
            "told": told,
            "job": job,
            "threads": max(1, int(search.cpus_per_trial)),
        },
        scaling_config=ScalingConfig(
            num_workers=search.ranks_per_trial,
            use_gpu=search.gpus_per_trial > 0,
            resources_per_worker={name: number for name, number in resources.items() if number},
        ),
        run_config=TrainRun(
            name=f"{run.folder.name}-{run.training.until or 'whole'}".replace(" ", "-"),
            storage_path=str((search.base().runs / search.experiment / "ray").absolute()),
            failure_config=FailureConfig(max_failures=0),
            callbacks=[TuneReportCallback()],
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise TrialLost(f"{run.folder}: {str(error).strip().splitlines()[-1]}; see {LOG} there") from None


def rank_of_trial(config: dict[str, Any]) -> None:
    """One rank, in a Ray Train worker. Raises TrialLost where another start is worth it."""
    import ray.train
    from ray.train.collective import broadcast_from_rank_zero

    context, job = ray.train.get_context(), config["job"]
    os.chdir(job.cwd)
    search, task = SearchConfig.model_validate(job.search), Task.read(config["task"])
    first = context.get_world_rank() == 0
    address, port = broadcast_from_rank_zero((ray.util.get_node_ip_address(), _free_port()) if first else None)
    ranks = Ranks(
        context.get_world_rank(),
        context.get_world_size(),
        context.get_local_rank(),
        context.get_local_world_size(),
        address,
        port,
    )
    folder = task.run().folder
    log = folder / (LOG if first else f"rank-{ranks.rank}.log")
    with child(task, environment_of(os.environ, ranks, config["threads"]), Path(job.cwd), log) as process:
        for report in process.reports():
            if report.step > config["told"]:
                ray.train.report(metrics_of(search, report))
        code = process.exit_code()
    if is_resumable(code):
        raise TrialLost(f"rank {ranks.rank} ended with {code}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])
