"""Training warns of maps that have come loose from the pictures, and of no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from known_maps import BrightSpot, FixedDot, measured, pictures_of
from torch import nn

from align_dist.runs.metrics import write_metrics
from align_dist.training.map_warnings import collapse_warning, staying_warning, unguided_staying


def measures_of(network: nn.Module, places: list[tuple[int, int]]) -> dict[str, float]:
    return {f"validation/{name}": value for name, value in measured(network, pictures_of(places)).items()}


def test_training_warns_of_maps_that_stay_where_they_are_and_of_no_others() -> None:
    everywhere = [(index // 6 % 6, index % 6) for index in range(144)]
    line = collapse_warning(measures_of(FixedDot(1, 4), everywhere), 144)
    assert line is not None and "\n" not in line and "100%" in line and "36" in line
    assert collapse_warning(measures_of(FixedDot(1, 4), everywhere[:15]), 15) is None
    assert collapse_warning(measures_of(FixedDot(1, 4), everywhere[:16]), 16) is not None
    assert collapse_warning(measures_of(BrightSpot(), everywhere), 144) is None
    # Objects that all stand in one place: one cell, and yet the maps follow.
    in_one_place = [(2, 1)] * 100 + everywhere[:36]
    assert collapse_warning(measures_of(BrightSpot(), in_one_place), 136) is None
    assert collapse_warning({"validation/accuracy": 0.5}, 144) is None


def test_training_warns_of_maps_that_stay_more_than_they_did_before_guidance(tmp_path: Path) -> None:
    everywhere = [(index // 6 % 6, index % 6) for index in range(72)]
    staying, moving = measures_of(FixedDot(1, 4), everywhere), measures_of(BrightSpot(), everywhere)
    metrics = tmp_path / "metrics.jsonl"
    assert unguided_staying(metrics, 20) is None
    for step, mirror, shift in ((10, 0.9, 0.9), (20, 0.2, 0.4), (30, 1.0, 1.0)):
        write_metrics(metrics, step, step / 10, {"validation/stays_mirror": mirror, "validation/stays_shift": shift})
    unguided = unguided_staying(metrics, 20)
    assert unguided == pytest.approx(0.3)
    line = staying_warning(staying, unguided, 72)
    assert line is not None and "\n" not in line and "1.00" in line and "0.30" in line
    assert staying_warning(moving, unguided, 72) is None
    assert staying_warning(staying, 0.9, 72) is None
    assert staying_warning(staying, None, 72) is None and staying_warning({}, unguided, 72) is None
    assert staying_warning(staying, unguided, 8) is None
    assert staying_warning(dict.fromkeys(staying, float("nan")), unguided, 72) is None
