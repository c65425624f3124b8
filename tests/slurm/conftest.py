"""What the tests on a real Slurm share: a run long enough to be disturbed, and what it gives undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ranks import described, run_ranks

from align_dist.config import RunConfig


@pytest.fixture(scope="session")
def patient(squares: RunConfig) -> RunConfig:
    """Ten seconds and more of training on an idle machine: Slurm takes some to preempt a job."""
    lengths = {
        "length": "240 steps",
        "validate_every": "60 steps",
        "checkpoint_every": "10 steps",
        "pictures_every": "240 steps",
    }
    return squares.model_copy(update={"training": squares.training.model_copy(update=lengths)})


@pytest.fixture(scope="session")
def by_hand(patient: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that run on two ranks that no Slurm has started or stopped."""
    path = tmp_path_factory.mktemp("hand")
    config = described(patient, path)
    run_ranks(2, ["-m", "align_dist.cli", "train", str(path / "run.yaml")])
    return config.folder
