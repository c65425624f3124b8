"""What Ray Tune asks while trials run: which one is next, and which one stops."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from align_dist.errors import LostRankError, Preempted
from align_dist.parallel.group import Group
from align_dist.runs.folder import RunFolder
from align_dist.search.config import CLOCK, Objective, Scheduler
from align_dist.search.sampler import TrialSampler
from align_dist.search.trials import Trial, mark_begun, trial_status
from align_dist.training.signals import StopRequest

ROUNDING = 1 + 1e-9  # Ray counts rungs by a quotient of logarithms, rounded down


class TrialQueue(Searcher):  # type: ignore[misc]
    """Trials that wait, then those that a sampler adds. Ray keeps nothing: a search goes on from its run folders.

    task_of: what Ray's processes are told of a trial.
    """

    def __init__(
        self,
        waiting: Iterable[Trial],
        sampler: TrialSampler | None,
        objective: Objective,
        task_of: Callable[[Trial], Any],
    ) -> None:
        super().__init__(metric="objective", mode="max")
        self._waiting, self._sampler = list(waiting), sampler
        self._objective, self._task_of = objective, task_of
        self.started: dict[str, Trial] = {}

    def set_search_properties(self, metric: str, mode: str, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        trial = self._waiting.pop(0) if self._waiting else self._sampler.ask() if self._sampler else None
        if trial is None:
            return str(Searcher.FINISHED)
        mark_begun(trial, self._objective)
        self.started[trial_id] = trial
        return {"number": trial.number, "task": self._task_of(trial)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if self._sampler is not None:
            self._sampler.tell(self.started[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class Watch(Callback):  # type: ignore[misc]
    """A line for each change of a trial's state; leaves Ray's loop where something asked for a stop."""

    def __init__(self, queue: TrialQueue, objective: Objective, request: StopRequest) -> None:
        self._queue, self._objective, self._request = queue, objective, request

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._say(trial, "started")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        status = trial_status(self._queue.started[trial.trial_id], self._objective)
        best = "" if status.selected is None else f", objective {self._objective.value(status.selected.metrics):.4f}"
        self._say(trial, f"{status}{best} at step {status.steps}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """What no process of the trial could put on record, such as that there was none, is so here."""
        folder = RunFolder(self._queue.started[trial.trial_id].folder)
        if folder.ending() is None:
            lines = str(trial.get_error() or "Ray gave the trial up without a word").strip().splitlines()
            folder.end_badly(LostRankError.exit_code, lines[-1].strip()[:300])
        self.on_trial_complete(iteration, trials, trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._request.agreed(Group()):
            raise Preempted(f"{self._request.name}: stops; the same command goes on")

    def _say(self, trial: Any, state: str) -> None:
        print(f"{self._queue.started[trial.trial_id]}: {state}", file=sys.stderr, flush=True)


class _Name(NamedTuple):
    """A trial as far as ASHA looks at one, under a name that stays the same over restarts."""

    trial_id: str


class GuidedASHA(ASHAScheduler):  # type: ignore[misc]
    """Ray's ASHA on a clock of validations since guidance began. GuidedASHA tells why a trial stops, stops none upon
    its last validation, and judges none again at a rung that was passed before a restart.

    most: validations of the longest trial. stop: takes the number of a trial that is stopped, and the reason. earlier:
    results that trials have reported to an earlier start, by number.
    """

    def __init__(
        self,
        settings: Scheduler,
        most: int,
        stop: Callable[[int, str], None],
        earlier: Mapping[int, Sequence[dict[str, float]]],
    ) -> None:
        super().__init__(
            time_attr=CLOCK,
            metric="objective",
            mode="max",
            grace_period=settings.grace,
            max_t=max(settings.max or most, settings.grace) * ROUNDING,
            reduction_factor=settings.factor,
            stop_last_trials=False,  # what survives the last rung is trained to its end
        )
        self._stop, self._factor = stop, settings.factor
        for number, results in earlier.items():
            super().on_trial_add(None, _name(number))
            for result in results:
                super().on_trial_result(None, _name(number), result)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        super().on_trial_add(tune_controller, _name(trial.config["number"]))

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        decision: str = super().on_trial_result(tune_controller, _name(number), result)
        if decision != TrialScheduler.STOP:
            return decision
        if result["is_last"]:
            return str(TrialScheduler.CONTINUE)
        score = f"{result['objective']:.4f} after {result[CLOCK]} guided validations"
        self._stop(number, f"ASHA: {score}, below the best 1 in {self._factor:g}")
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> None:
        """Nothing: the last result was judged when it came."""

    def on_trial_remove(self, tune_controller: Any, trial: RayTrial) -> None:
        """Nothing: ASHA keeps what a trial reported."""


def _name(number: int) -> _Name:
    return _Name(f"trial-{number}")
