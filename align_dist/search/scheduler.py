"""ASHA on a clock that starts with guidance, whose rungs are filled again from the run folders after a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from align_dist.search.space import Scheduler

# Takes the number of a trial that is stopped, and why.
Stop = Callable[[int, str], None]
# A validation that comes this little before a rung is of it: an epoch is rarely a whole number of steps, and the next
# validation may be an epoch away. As near to its end a trial is not stopped any more.
EARLY = 0.95
History = Sequence[dict[str, float]]


@dataclass(frozen=True)
class _Earlier:
    """A trial of an earlier start, as far as ASHA looks at one."""

    trial_id: str


class GuidedASHA(ASHAScheduler):  # type: ignore[misc]
    """Says of each trial that it stops why. guided: epochs of guidance of the longest trial. earlier: the reports of
    trials that are over, a list a trial.
    """

    def __init__(self, settings: Scheduler, guided: float, stop: Stop, earlier: Sequence[History] = ()) -> None:
        last = max(min(settings.max or guided, EARLY * guided), settings.grace)
        super().__init__(
            time_attr="guided_epochs",
            metric="objective",
            mode="max",
            grace_period=EARLY * settings.grace,
            max_t=EARLY * last,
            reduction_factor=settings.factor,
            stop_last_trials=False,  # what survives the last rung is trained to its end
        )
        self._stop, self._factor = stop, settings.factor
        for number, history in enumerate(earlier):
            self._replay(f"earlier-{number}", history)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            objective, epochs = result["objective"], result["guided_epochs"]
            better = f"below the best 1 in {self._factor:g}"
            self._stop(trial.config["number"], f"ASHA: {objective:.4f} after {epochs:.1f} guided epochs, {better}")
        return decision

    def _replay(self, name: str, history: History) -> None:
        trial = _Earlier(name)
        super().on_trial_add(None, trial)
        for result in history:
            super().on_trial_result(None, trial, result)
