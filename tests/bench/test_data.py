from __future__ import annotations

import numpy as np
import pytest

from align_dist.bench.data import STEPS, cost, measure
from align_dist.cli import main
from align_dist.config import BenchmarkConfig, DataConfig
from align_dist.errors import ConfigError

MIB = 2**20


def test_the_peak_is_that_of_the_work_and_not_of_what_came_before() -> None:
    def hold(mebibytes: int) -> int:
        return len(np.ones(mebibytes * MIB, np.uint8))

    _, (_, nothing) = cost(lambda: None)
    size, (_, large) = cost(lambda: hold(300))
    _, (_, small) = cost(lambda: hold(60))
    assert size == 300 * MIB
    assert large - nothing == pytest.approx(300 * MIB, abs=30 * MIB)
    assert small - nothing == pytest.approx(60 * MIB, abs=30 * MIB)


@pytest.mark.parametrize("storage", ["jpg", "raw"])
def test_every_step_of_growing_is_measured(storage: str) -> None:
    benchmark = BenchmarkConfig.model_validate({"storage": storage})
    found = measure(40, benchmark, DataConfig(batch_size=8))
    assert tuple(found) == STEPS
    assert all(seconds > 0 and peak > 10 * MIB for seconds, peak in found.values())


@pytest.mark.parametrize("what", ["loader", "step", "scale"])
def test_a_bench_of_a_run_needs_its_config(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", what]) == ConfigError.exit_code
    assert len(capsys.readouterr().err.splitlines()) == 1
