"""Answers to Ray Tune while trials run: the next trial, and the trials to stop."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from align_dist.errors import LostRankError, Preempted, last_line
from align_dist.parallel.group import Group
from align_dist.runs.folder import RunFolder
from align_dist.search.config import CLOCK, Scheduler, SearchConfig
from align_dist.search.sampler import TrialSampler
from align_dist.search.trainable import TrialTask
from align_dist.search.trials import DESCRIPTION, Trial, branch_steps, mark_begun, trial_status
from align_dist.training.signals import StopRequest
from align_dist.training_plan import schedule_of

ROUNDING = 1 + 1e-9  # Ray counts rungs by a quotient of logarithms, rounded down


class TrialQueue(Searcher):  # type: ignore[misc]
    """Trials that wait, then those that a sampler adds.

    started: those that Ray was given, by its names.
    """

    def __init__(self, search: SearchConfig, waiting: Sequence[Trial], sampler: TrialSampler | None) -> None:
        super().__init__()
        self._search, self._waiting, self._sampler = search, list(waiting), sampler
        self.started: dict[str, Trial] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        trial = self._waiting.pop(0) if self._waiting else self._sampler.ask() if self._sampler else None
        if trial is None:
            return str(Searcher.FINISHED)
        mark_begun(trial, self._search.objective)
        self.started[trial_id] = trial
        return {"task": task_of(self._search, trial)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if self._sampler is not None:
            self._sampler.tell(self.started[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a search goes on from its run folders."""


def task_of(search: SearchConfig, trial: Trial) -> TrialTask:
    """A trial as a Ray process is told of it."""
    steps = ",".join(str(step) for step in branch_steps(search, trial))
    shared = ["--share-warmup", *(["--keep-warmup", steps] if steps else [])] if search.share_warmup else []
    arguments = (str(trial.folder / DESCRIPTION), "--sources-only", *shared)
    return TrialTask(trial.folder, arguments, os.getcwd(), schedule_of(trial.config), search)


class Watch(Callback):  # type: ignore[misc]
    """A line for each change of a trial's state; leaves Ray's loop where something asked for a stop."""

    def __init__(self, search: SearchConfig, queue: TrialQueue, request: StopRequest) -> None:
        self._search, self._queue, self._request = search, queue, request

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        print(f"{self._queue.started[trial.trial_id]}: started", file=sys.stderr, flush=True)

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        search_trial = self._queue.started[trial.trial_id]
        status = trial_status(search_trial, self._search.objective)
        score = "" if status.objective is None else f", objective {status.objective:.4f}"
        print(f"{search_trial}: {status} at step {status.steps}{score}", file=sys.stderr, flush=True)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """Record an error that no process of the trial could record, such as that there was none."""
        folder = RunFolder(self._queue.started[trial.trial_id].folder)
        if folder.ending() is None:
            reason = last_line(str(trial.get_error() or "Ray gave the trial up without a word"))
            folder.record_ending(LostRankError.exit_code, reason[:300])
        self.on_trial_complete(iteration, trials, trial)

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        if self._request.agreed(Group()):
            raise Preempted(f"{self._request.name}: stops; run the same command again to resume")


class _Name(NamedTuple):
    """A trial as far as ASHA looks at one, under a name that stays the same over restarts."""

    trial_id: str


class GuidedASHA(ASHAScheduler):  # type: ignore[misc]
    """Ray's ASHA on a clock of validations since guidance began, which puts on record why a trial stops, stops none
    upon the last validation, and judges none again at a rung that was passed before a restart.

    most: validations of the longest trial. earlier: what trials have reported to an earlier start, by folder.
    """

    def __init__(self, settings: Scheduler, most: int, earlier: Mapping[Path, Sequence[dict[str, float]]]) -> None:
        super().__init__(
            time_attr=CLOCK,
            metric="objective",
            mode="max",
            grace_period=settings.grace_period,
            max_t=max(settings.max or most, settings.grace_period) * ROUNDING,
            reduction_factor=settings.factor,
            stop_last_trials=False,  # what survives the last rung is trained to its end
        )
        for folder, results in earlier.items():
            super().on_trial_add(None, _Name(str(folder)))
            for result in results:
                super().on_trial_result(None, _Name(str(folder)), result)

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        super().on_trial_add(tune_controller, _Name(str(trial.config["task"].folder)))

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        folder = trial.config["task"].folder
        decision: str = super().on_trial_result(tune_controller, _Name(str(folder)), result)
        if decision == TrialScheduler.STOP and result["is_last"]:
            return str(TrialScheduler.CONTINUE)
        if decision == TrialScheduler.STOP:
            score = f"{result['objective']:.4f} after {result[CLOCK]} guided validations"
            RunFolder(folder).stop(f"ASHA: {score}, below the best 1 in {self._reduction_factor:g}")
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> None:
        """Do nothing: the last result was judged when it came."""

    def on_trial_remove(self, tune_controller: Any, trial: RayTrial) -> None:
        """Do nothing: ASHA keeps what a trial reported."""
