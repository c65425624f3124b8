"""ASHA at rungs that are counted in validations since guidance began."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from searches import write_search

from align_dist.config import RunConfig
from align_dist.schedule import Schedule
from align_dist.search.config import Scheduler
from align_dist.search.scheduler import GuidedASHA
from align_dist.search.trainable import TrialTask

Decide = Callable[..., str]
GOOD = (0.9, 0.9, 0.9)


def results(scores: Sequence[float], length: int) -> list[dict[str, float]]:
    """One validation after another, the last of `length` being that of the run's end."""
    return [
        {"validations": number, "objective": score, "step": number, "is_last": int(number == length)}
        for number, score in enumerate(scores, 1)
    ]


@pytest.fixture
def decide(squares: RunConfig, tmp_path: Path) -> Decide:
    """Of a trial with these scores, beside three good ones: C for each it goes on after, S where it stops."""
    _, search = write_search(squares, tmp_path, space={"align.lambda1": {"loguniform": [0.5, 8.0]}})

    def decisions(settings: Scheduler, scores: Sequence[float], length: int = 9, before: Sequence[float] = ()) -> str:
        earlier = {tmp_path / "trial": results(before, length)} if before else {}
        asha = GuidedASHA(settings, 9, earlier | {Path(name): results(GOOD, 9) for name in "abc"})
        task = TrialTask(tmp_path / "trial", (), "", Schedule(9, 0, 1, 1, 1, 1.0), search)
        trial = Trial("trial", stub=True, config={"task": task})
        asha.on_trial_add(None, trial)
        decided = [asha.on_trial_result(None, trial, result) for result in results(scores, length)]
        asha.on_trial_complete(None, trial, {"done": True})
        return "".join("S" if decision == TrialScheduler.STOP else "C" for decision in decided)

    return decisions


def test_a_trial_is_judged_at_the_validation_of_each_rung_and_the_reason_is_on_record(
    decide: Decide, tmp_path: Path
) -> None:
    asha = Scheduler(kind="asha", grace_period=1)
    assert decide(asha, [0.95, 0.1]) == "CC" and not (tmp_path / "trial").exists()
    assert decide(asha, [0.1]) == "S"
    assert decide(asha, [0.95, 0.1, 0.1]) == "CCS"
    reason = json.loads((tmp_path / "trial" / "stopped.json").read_text())["reason"]
    assert reason == "ASHA: 0.1000 after 3 guided validations, below the best 1 in 3"


def test_a_trial_that_has_passed_a_rung_is_not_judged_there_again(decide: Decide) -> None:
    """The trial was the first there; those after it would have stopped it. At the next rung all are judged alike."""
    asha = Scheduler(kind="asha")
    assert decide(asha, [0.5, 0.6, 0.95, 0.97], before=[0.5, 0.6]) == "CCCC"
    assert decide(asha, [0.5, 0.6, 0.1], before=[0.5, 0.6]) == "CCS"


def test_what_survives_the_last_rung_is_trained_to_its_end(decide: Decide) -> None:
    assert decide(Scheduler(kind="asha", max=2), [0.95, 0.1, 0.1, 0.1]) == "CCCC"
    assert decide(Scheduler(kind="asha", grace_period=3), [0.1, 0.1, 0.95, 0.1]) == "CCCC"


def test_no_trial_is_stopped_upon_its_last_validation(decide: Decide) -> None:
    assert decide(Scheduler(kind="asha"), [0.95, 0.1, 0.1], length=3) == "CCC"
    assert decide(Scheduler(kind="asha"), [0.95, 0.1, 0.1], length=4) == "CCS"


@pytest.mark.parametrize("factor", [2, 3, 4, 10])
def test_the_rung_at_max_is_one(decide: Decide, factor: int) -> None:
    """Ray counts rungs by logarithms, and rounds down: log(243) / log(3) is less than 5."""
    most = factor**5 if factor < 4 else factor**2
    asha = GuidedASHA(Scheduler(kind="asha", factor=factor, max=most), most, {Path("a"): results([0.9] * most, 0)})
    assert f"Iter {most}.000: 0.9" in asha.debug_string()
