from __future__ import annotations

import subprocess
import sys

import pytest

from align_dist.bench.data import STEPS, measure
from align_dist.cli import main
from align_dist.config import BenchmarkConfig, DataConfig
from align_dist.errors import ConfigError

MIB = 2**20


HELD = """
import numpy as np
from align_dist.bench.data import cost
print(*[cost(lambda: len(np.ones(mebibytes << 20, np.uint8)))[1][1] for mebibytes in (0, 300, 60)])
"""


def test_the_peak_is_that_of_the_work_and_not_of_what_came_before() -> None:
    """In a process of its own: a loader that was made before keeps freed memory for what comes next."""
    output = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True).stdout
    nothing, large, small = map(int, output.split())
    assert large - nothing == pytest.approx(300 * MIB, abs=30 * MIB)
    assert small - nothing == pytest.approx(60 * MIB, abs=30 * MIB)


@pytest.mark.parametrize("storage", ["jpg", "raw"])
def test_every_step_of_growing_is_measured(storage: str) -> None:
    benchmark = BenchmarkConfig.model_validate({"storage": storage})
    costs = measure(40, benchmark, DataConfig(batch_size=8))
    assert tuple(costs) == STEPS
    assert all(seconds > 0 and peak > 10 * MIB for seconds, peak in costs.values())


@pytest.mark.parametrize("what", ["loader", "step", "scale"])
def test_a_bench_of_a_run_needs_its_config(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", what]) == ConfigError.exit_code
    assert len(capsys.readouterr().err.splitlines()) == 1
