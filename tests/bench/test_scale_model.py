from __future__ import annotations

from itertools import pairwise

import pytest

from align_dist.bench.scale_model import RANKS, VOLUME, ScalingMeasurement, communication_seconds, efficiency

EXAMPLE = ScalingMeasurement(seconds=1.0, gradient_bytes=100, messages=2, bandwidth=50.0, latency=0.01)


def test_a_ring_worked_by_hand() -> None:
    """Four ranks: 2 · 3/4 · 100 bytes at 50 a second are 3 s, and 2 · 3 hops of two messages at 10 ms are 0.12 s."""
    assert communication_seconds(EXAMPLE, "ddp", 4) == pytest.approx(3.12)
    assert communication_seconds(EXAMPLE, "zero3", 4) == pytest.approx(3.12 * 1.5)
    assert efficiency(EXAMPLE, "ddp", 4) == pytest.approx(1 / 4.12)
    assert efficiency(EXAMPLE, "ddp", 4, overlap=0.5) == pytest.approx(1 / 3.62)


@pytest.mark.parametrize("engine", sorted(VOLUME))
def test_one_rank_sends_nothing_and_more_ranks_never_gain(engine: str) -> None:
    efficiencies = [efficiency(EXAMPLE, engine, ranks) for ranks in RANKS]
    assert efficiencies[0] == 1.0 and all(a > b > 0 for a, b in pairwise(efficiencies))


def test_what_hides_wholly_costs_nothing() -> None:
    assert efficiency(EXAMPLE, "ddp", 2, overlap=10.0) == 1.0
