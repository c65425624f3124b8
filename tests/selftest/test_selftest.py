"""The command as a user runs it; and that it would see a run that trained otherwise, or one that ended badly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from refusals import raises

from align_dist.data.prepare import prepare
from align_dist.errors import ConfigError, MachineError
from align_dist.selftest.checks import ROUNDING
from align_dist.selftest.runs import SelftestRun, distance, finish, loss_difference
from align_dist.selftest.synthetic import make_run


def test_every_device_and_engine_that_is_here_passes(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    command = [sys.executable, "-m", "align_dist.cli", "selftest", "--out", str(path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    checks = {check["name"]: check["state"] for check in json.loads(path.read_text("utf-8"))["checks"]}
    assert process.returncode == 0, process.stdout + process.stderr
    assert "failed" not in checks.values()
    assert [state for name, state in checks.items() if name.startswith("cpu")].count("ok") == 5


def test_a_run_that_trains_otherwise_is_far_and_one_that_fails_is_an_error(tmp_path: Path) -> None:
    base = make_run(tmp_path)
    one, other = SelftestRun(base, "one"), SelftestRun(base, "other", ("align.lambda3=3",))
    prepare(one.config.benchmark)
    for run in (one, other):
        finish(run)
    assert distance(one, one) == 0
    assert distance(other, one) > 5 * ROUNDING
    assert loss_difference(one, one) == 0 == loss_difference(other, one)  # guidance is not of warm-up
    with raises(MachineError, ConfigError.exit_code):
        finish(SelftestRun(base, "none", ("align.lamda3=3",)))
