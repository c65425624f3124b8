"""A search on a real Slurm of two nodes, each of them a node of Ray."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from local_slurm import CHECKOUT, output_of, recorded, restarts_of, sbatch, text_of, wait_for_state, wait_until
from searches import write_values

from align_dist.config import RunConfig

pytestmark = pytest.mark.usefixtures("slurm")
SECONDS = 900.0


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in a folder whose name needs quoting."""
    path = tmp_path_factory.mktemp("check") / """a "quoted" user's $HOME"""
    path.mkdir()
    for name in ("slurm", "launch"):
        (path / name).symlink_to(CHECKOUT / name)
    (path / ".venv").symlink_to(sys.prefix)
    return path


def write_search(squares: RunConfig, path: Path, **changes: object) -> Path:
    lengths = ["training.length=12 steps", "training.warmup=4 steps", "training.validate_every=4 steps"]
    space = {"align.lambda1": {"loguniform": [0.5, 8.0]}}
    return write_values(squares, path, **{"space": space, "overrides": [*lengths, f"runs={path / 'runs'}"], **changes})[
        0
    ]


def test_a_search_over_two_nodes_is_told_its_end_requeued_and_goes_on(
    squares: RunConfig, checkout: Path, tmp_path: Path
) -> None:
    """Ray on one node alone has one core: two ranks are a trial only if both nodes are in."""
    search = write_search(squares, tmp_path, samples=1, ranks_per_trial=2)
    output = tmp_path / "out.log"
    options = ["--nodes=2", "--cpus-per-task=1", f"--output={output}"]
    job = sbatch(*options, "slurm/tune.sbatch", search, cwd=checkout)
    runs = tmp_path / "runs" / "search"
    wait_until(lambda: any(runs.glob("warmups/*/metrics.jsonl")), SECONDS, lambda: text_of(output))
    output_of("scancel", "--batch", "--signal=USR2", job)
    wait_until(lambda: restarts_of(job) == 1, SECONDS, lambda: text_of(output))
    wait_for_state(job, "COMPLETED", output=output, seconds=SECONDS)
    assert "SIGUSR2" in output.read_text()
    assert not list(checkout.glob("ray-*.log"))
    (trial,) = json.loads((runs / "search.json").read_text())["trials"]
    assert trial["state"] == "trained", text_of(output)
    environment = json.loads((Path(trial["folder"]) / "environment.json").read_text())
    assert environment[0]["ranks"] == 2


def test_a_job_whose_search_fails_fails_with_one_line(squares: RunConfig, checkout: Path, tmp_path: Path) -> None:
    search = write_search(squares, tmp_path, space={"align.lamda1": {"uniform": [0, 1]}})
    output = tmp_path / "out.log"
    job = sbatch("--cpus-per-task=1", f"--output={output}", "slurm/tune.sbatch", search, cwd=checkout)
    wait_for_state(job, "FAILED", output=output, seconds=SECONDS)
    assert recorded(job)[job] == ("FAILED", "2:0")
    (line,) = [line for line in output.read_text().splitlines() if line.startswith("tune.py: ")]
    assert "align.lamda1" in line and "align.lambda1" in line and "Traceback" not in output.read_text()
