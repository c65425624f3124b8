"""ASHA on a clock that starts with guidance, whose rungs are filled again from the run folders after a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from align_dist.search.space import Scheduler

# Takes the number of a trial that is stopped, and why.
Stop = Callable[[int, str], None]
# Epochs of guidance of a trial's whole run, by its number.
Guided = Callable[[int], float]
# What a trial has reported, the earliest first.
History = Sequence[dict[str, float]]
# A validation that comes this little before a rung is of it: an epoch is rarely a whole number of steps, and the next
# validation may be an epoch away. As near to its end a trial is not stopped any more.
EARLY = 0.95
ROUNDING = 1 + 1e-9  # Ray counts rungs by a quotient of logarithms, rounded down


@dataclass(frozen=True)
class _Known:
    """A trial as far as ASHA looks at one, under a name that it keeps over restarts."""

    trial_id: str


class GuidedASHA(ASHAScheduler):  # type: ignore[misc]
    """Says of each trial that it stops why. longest: epochs of guidance of the longest trial. earlier: by number, what
    trials have reported to an earlier search; at rungs that they have passed they are not judged again.
    """

    def __init__(
        self,
        settings: Scheduler,
        longest: float,
        guided: Guided,
        stop: Stop,
        earlier: Mapping[int, History] | None = None,
    ) -> None:
        last = max(min(settings.max or longest, EARLY * longest), settings.grace)
        super().__init__(
            time_attr="guided_epochs",
            metric="objective",
            mode="max",
            grace_period=EARLY * settings.grace,
            max_t=EARLY * last * ROUNDING,
            reduction_factor=settings.factor,
            stop_last_trials=False,  # what survives the last rung is trained to its end
        )
        self._stop, self._guided, self._factor = stop, guided, settings.factor
        for number, history in (earlier or {}).items():
            self._fill(_named(number), history)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        super().on_trial_add(tune_controller, _known(trial))

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, _known(trial), result)
        if decision != TrialScheduler.STOP:
            return decision
        number, epochs = trial.config["number"], result["guided_epochs"]
        if epochs >= EARLY * self._guided(number):
            return str(TrialScheduler.CONTINUE)
        better = f"below the best 1 in {self._factor:g}"
        self._stop(number, f"ASHA: {result['objective']:.4f} after {epochs:.1f} guided epochs, {better}")
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, _known(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: RayTrial) -> None:
        super().on_trial_remove(tune_controller, _known(trial))

    def _fill(self, trial: _Known, history: History) -> None:
        super().on_trial_add(None, trial)
        for result in history:
            super().on_trial_result(None, trial, result)


def _known(trial: RayTrial) -> _Known:
    return _named(trial.config["number"])


def _named(number: int) -> _Known:
    return _Known(f"trial-{number}")
