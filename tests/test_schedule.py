"""When things happen."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import raises

from align_dist.config import parse_config
from align_dist.errors import ConfigError
from align_dist.schedule import Schedule, learning_rate, make_schedule
from align_dist.schema.values import OptimiserConfig


@given(*[st.integers(1, 50)] * 4)
def test_every_due_step_is_a_stop(length: int, validate: int, checkpoint: int, pictures: int) -> None:
    schedule = Schedule(length, 0, validate, checkpoint, pictures, 1.0)
    step, stops = 0, []
    while step < length:
        step = schedule.next_stop(step)
        stops.append(step)
    assert stops == sorted(set(stops)) and stops[-1] == length
    for every in (validate, checkpoint, pictures):
        assert {s for s in range(1, length + 1) if schedule.is_due(s, every)} <= set(stops)


def test_epochs_become_steps_and_a_long_warmup_is_refused() -> None:
    training = parse_config({"training": {"length": "10 epochs", "warmup": "50 steps"}}).training
    assert make_schedule(training, 7.5).length == 75
    with raises(ConfigError, "training.warmup: ", "50 steps", "30 steps"):
        make_schedule(training, 3.0)


def test_cosine_starts_at_the_rate_and_ends_at_zero() -> None:
    optimiser = OptimiserConfig(learning_rate=0.1, schedule="cosine")
    assert learning_rate(optimiser, 20, 20, 100) == 0.1
    assert learning_rate(optimiser, 60, 20, 100) == pytest.approx(0.05)
    assert math.isclose(learning_rate(optimiser, 100, 20, 100), 0, abs_tol=1e-12)
    assert learning_rate(optimiser, 5, 20, 100) == 0.1
    constant = OptimiserConfig(learning_rate=0.1)
    assert {learning_rate(constant, s, 0, 9) for s in range(10)} == {0.1}


def test_model_selection_begins_after_warm_up_and_always_has_the_end() -> None:
    schedule = Schedule(10, 4, 1, 1, 1, 1.0)
    assert [step for step in range(1, 11) if schedule.may_select(step)] == [5, 6, 7, 8, 9, 10]
    assert Schedule(10, 10, 1, 1, 1, 1.0).may_select(10)
