"""How many trials Ray's machines hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align_dist.config import RunConfig, to_yaml
from align_dist.search.driver import _places
from align_dist.search.space import parse_search

TWO = [{"Alive": True, "Resources": {"CPU": 6.0, "GPU": 2.0}}, {"Alive": True, "Resources": {"CPU": 3.0, "GPU": 1.0}}]


@pytest.mark.parametrize(
    ("cpus", "gpus", "places"),
    [(1, 0, 9), (2, 0, 4), (4, 0, 1), (8, 0, 0), (1, 1, 3), (4, 1, 1), (1, 0.5, 6), (1, 3, 0)],
)
def test_a_rank_is_never_over_two_machines(
    squares: RunConfig, tmp_path: Path, cpus: float, gpus: float, places: int
) -> None:
    (tmp_path / "run.yaml").write_text(to_yaml(squares))
    values: dict[str, Any] = {"config": str(tmp_path / "run.yaml"), "experiment": "search"}
    search = parse_search(values | {"cpus_per_trial": cpus, "gpus_per_trial": gpus})
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    assert _places(search, [*TWO, dead]) == places
