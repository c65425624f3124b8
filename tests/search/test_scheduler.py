"""ASHA at the rungs of guided epochs."""

from __future__ import annotations

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from align_dist.search.scheduler import GuidedASHA
from align_dist.search.space import Scheduler

GOOD = [{"guided_epochs": epochs, "objective": 0.9} for epochs in (0.96, 1.95, 2.94)]
Told = list[tuple[float, float]]


def decisions(
    settings: Scheduler,
    told: Told,
    longest: float = 5.0,
    own: float = 5.0,
    before: Told | None = None,
) -> tuple[str, list[str]]:
    """Of trial 7, which tells (guided epochs, objective): C for each it goes on after, S where it stops; and why.

    before: what it had told to an earlier search.
    """
    reasons: list[str] = []
    earlier = dict.fromkeys((1, 2, 3), GOOD)
    if before is not None:
        earlier = {7: [{"guided_epochs": at, "objective": value} for at, value in before], **earlier}
    asha = GuidedASHA(settings, longest, lambda _: own, lambda _, reason: reasons.append(reason), earlier)
    trial = Trial("trial", stub=True, config={"number": 7})
    asha.on_trial_add(None, trial)
    made = [asha.on_trial_result(None, trial, {"guided_epochs": at, "objective": value}) for at, value in told]
    asha.on_trial_complete(None, trial, {"guided_epochs": 5.0, "objective": 0.1})
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
def test_a_trial_is_judged_at_the_validation_of_each_rung(told: Told, expected: str) -> None:
    """31 of an epoch's 31.25 steps lie between validations: none falls on a rung."""
    made, reasons = decisions(Scheduler(kind="asha"), told)
    assert made == expected
    stopped = [f"ASHA: 0.1000 after {told[-1][0]:.1f} guided epochs, below the best 1 in 3"]
    assert reasons == (stopped if "S" in expected else [])


def test_a_trial_that_has_passed_a_rung_is_not_judged_there_again() -> None:
    """It was the first there; what came after it would have stopped it. At the next rung it is judged as all are."""
    again = [(0.96, 0.5), (1.95, 0.6), (2.94, 0.95), (4.0, 0.97)]
    assert decisions(Scheduler(kind="asha"), again, before=again[:2]) == ("CCCC", [])
    assert decisions(Scheduler(kind="asha"), [*again[:2], (2.94, 0.1)], before=again[:2])[0] == "CCS"


def test_what_survives_the_last_rung_is_trained_to_its_end() -> None:
    told = [(0.96, 0.95), (2.0, 0.1), (5.0, 0.1)]
    assert decisions(Scheduler(kind="asha", max=2), told) == ("CCC", [])
    assert decisions(Scheduler(kind="asha", grace=3), [(2.94, 0.95), (5.0, 0.1)]) == ("CC", [])


def test_a_trial_that_is_nearly_over_is_not_stopped() -> None:
    told = [(0.96, 0.95), (2.9, 0.1)]
    assert decisions(Scheduler(kind="asha"), told, longest=3.0, own=3.0) == ("CC", [])
    assert decisions(Scheduler(kind="asha"), told, longest=9.0, own=3.0) == ("CC", []), "others are longer"
    assert decisions(Scheduler(kind="asha"), told, longest=9.0, own=3.5)[0] == "CS"


@pytest.mark.parametrize("grace", [0.5, 1, 2, 4, 8])
@pytest.mark.parametrize("factor", [2, 3, 4, 10])
def test_the_rung_at_max_is_one(grace: float, factor: float) -> None:
    """Ray counts rungs by logarithms, and rounds down."""
    settings = Scheduler(kind="asha", grace=grace, factor=factor, max=grace * factor**2)
    asha = GuidedASHA(settings, 10_000.0, lambda _: 10_000.0, lambda *_: None)
    (bracket,) = asha._brackets
    assert [at for at, _ in bracket._rungs] == pytest.approx([0.95 * grace * factor**k for k in (2, 1, 0)])
