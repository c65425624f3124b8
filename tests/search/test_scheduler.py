"""ASHA at the rungs of guided epochs."""

from __future__ import annotations

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from align_dist.search.scheduler import GuidedASHA
from align_dist.search.space import Scheduler

GOOD = [[{"guided_epochs": epochs, "objective": 0.9} for epochs in (0.96, 1.95, 2.94)]] * 3


def decisions(settings: Scheduler, told: list[tuple[float, float]], guided: float = 5.0) -> tuple[str, list[str]]:
    """Of a trial that tells (guided epochs, objective): C for each it goes on after, S where it stops; and why."""
    reasons: list[str] = []
    asha = GuidedASHA(settings, guided, lambda _, reason: reasons.append(reason), GOOD)
    trial = Trial("trial", stub=True, config={"number": 7})
    asha.on_trial_add(None, trial)
    made = [asha.on_trial_result(None, trial, {"guided_epochs": at, "objective": value}) for at, value in told]
    return "".join("S" if decision == TrialScheduler.STOP else "C" for decision in made), reasons


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([(0.5, 0.1)], "C"),
        ([(0.96, 0.1)], "S"),
        ([(0.96, 0.95), (1.95, 0.1), (2.94, 0.1)], "CCS"),
        ([(3.5, 0.95), (3.9, 0.1), (4.9, 0.1), (5.0, 0.1)], "CCCC"),
    ],
    ids=["before a rung", "worse at a rung", "worse at the next", "past all of them"],
)
def test_a_trial_is_judged_at_the_validation_of_each_rung(told: list[tuple[float, float]], expected: str) -> None:
    """31 of an epoch's 31.25 steps lie between validations: none falls on a rung."""
    made, reasons = decisions(Scheduler(kind="asha"), told)
    assert made == expected
    stopped = [f"ASHA: 0.1000 after {told[-1][0]:.1f} guided epochs, below the best 1 in 3"]
    assert reasons == (stopped if "S" in expected else [])


def test_what_survives_the_last_rung_is_trained_to_its_end() -> None:
    told = [(0.96, 0.95), (2.0, 0.1), (5.0, 0.1)]
    assert decisions(Scheduler(kind="asha", max=2), told) == ("CCC", [])
    assert decisions(Scheduler(kind="asha", grace=3), [(2.94, 0.95), (5.0, 0.1)]) == ("CC", [])
    assert decisions(Scheduler(kind="asha"), [(0.96, 0.95), (2.9, 0.1)], guided=3.0) == ("CC", []), "so near its end"
