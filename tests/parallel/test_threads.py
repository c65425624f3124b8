"""Torch computes on the cores of a rank, whatever FFCV wants and in whatever order things were imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from align_dist.config import RunConfig, load_config, to_yaml
from align_dist.machine import available_cores
from align_dist.parallel.threads import thread_count

OURS = "from align_dist.run import train_run"
# A whole run, which says at its end what its steps had.
SCRIPT = """
import sys
from pathlib import Path
{imports}
import torch
from align_dist.config import load_config
config = load_config(Path(sys.argv[1]))
train_run(config, lambda line: None, sources_only=True)
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(("threads", "imports"), [(0, f"import ffcv\n{OURS}"), (3, f"import torch\n{OURS}")])
def test_a_runs_steps_have_every_core_or_what_is_asked_for(
    squares: RunConfig, tmp_path: Path, threads: int, imports: str
) -> None:
    training = squares.training.model_copy(
        update={"threads": threads, "length": "8 steps", "warmup": "2 steps", "validate_every": "4 steps"}
    )
    config = squares.model_copy(update={"runs": tmp_path / "runs", "training": training})
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    around = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", SCRIPT.format(imports=imports), str(tmp_path / "run.yaml")]
    finished = subprocess.run(command, env=around, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    expected = threads or available_cores()
    assert finished.stdout.split() == [str(expected)]
    (start,) = json.loads((load_config(tmp_path / "run.yaml").folder / "environment.json").read_text())
    assert (start["threads"], start["precision"], start["device"]) == (expected, config.training.precision, "cpu")


def test_importing_the_data_rooms_leaves_torchs_threads_alone() -> None:
    code = "import torch; torch.set_num_threads(5); import align_dist.data.loader; print(torch.get_num_threads())"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "5"


@pytest.mark.parametrize(
    ("threads", "cores", "ranks", "variables", "expected"),
    [
        (0, 8, 1, {}, 8),
        (3, 8, 1, {"OMP_NUM_THREADS": "2"}, 3),
        (0, 8, 1, {"OMP_NUM_THREADS": "2"}, 2),
        (0, 8, 1, {"OMP_NUM_THREADS": "4,2"}, 4),
        (0, 8, 1, {"OMP_NUM_THREADS": "64"}, 8),
        (0, 8, 1, {"OMP_NUM_THREADS": ""}, 8),
        (0, 8, 1, {"OMP_NUM_THREADS": "many"}, 8),
        (0, 8, 1, {"OMP_NUM_THREADS": "0"}, 8),
        # torchrun sets 1 for every rank that it starts.
        (0, 4, 2, {"OMP_NUM_THREADS": "1"}, 4),
        (0, 0, 2, {}, 1),
    ],
)
def test_the_number_of_threads(threads: int, cores: int, ranks: int, variables: dict[str, str], expected: int) -> None:
    assert thread_count(threads, cores, ranks, variables) == expected
