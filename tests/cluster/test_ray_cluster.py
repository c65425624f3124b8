"""Ray on machines that it would not start on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from confined import READ_ONLY, run_with_shared_memory
from local_slurm import CHECKOUT
from refusals import raises
from searches import write_search

from align_dist.cluster.ray_cluster import scratch_place
from align_dist.config import RunConfig
from align_dist.errors import MachineError

TASK = """
from align_dist.cluster.ray_cluster import ray_running
with ray_running(None, 0):
    import ray
    @ray.remote
    def double(values):
        return [2 * value for value in values]
    assert ray.get(double.remote(list(range(300_000))))[-1] == 599_998
"""

HIDDEN = """
import sys
sys.modules["{package}"] = None
sys.path.insert(0, "launch")
from tune import main
raise SystemExit(main(["{search}"]))
"""


@pytest.mark.parametrize("package", ["ray", "optuna"])
def test_a_search_without_its_packages_is_one_line_and_writes_no_results(
    package: str, squares: RunConfig, tmp_path: Path
) -> None:
    path, search = write_search(squares, tmp_path)
    command = [sys.executable, "-c", HIDDEN.format(package=package, search=path)]
    finished = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert finished.returncode == MachineError.exit_code, finished.stderr
    (line,) = finished.stderr.splitlines()
    assert package in line and "launch/install.sh" in line
    assert not (search.folder() / "search.json").exists()


def test_neither_shared_memory_nor_a_short_temporary_folder_is_needed(tmp_path: Path) -> None:
    """Sockets have paths of 107 characters at most; 300,000 numbers go through Ray's object store."""
    long = tmp_path / ("long" * 25)
    long.mkdir()
    finished = run_with_shared_memory(READ_ONLY, ["-c", TASK], {**os.environ, "TMPDIR": str(long)})
    assert finished.returncode == 0, finished.stderr


def test_the_first_folder_that_is_short_and_writable_is_taken_or_one_line_names_all(tmp_path: Path) -> None:
    long = tmp_path / ("long" * 25)
    long.mkdir()
    assert scratch_place([str(long), "/none", "/tmp", "/"]) == "/tmp"
    with raises(MachineError, "TMPDIR: ", long, "/none"):
        scratch_place([str(long), "/none"])
