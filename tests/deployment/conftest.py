"""A run that is trained, to be used."""

from __future__ import annotations

import pytest

from align_dist.config import RunConfig
from align_dist.run import train_run
from align_dist.runs.folder import RunFolder


@pytest.fixture(scope="session")
def trained(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = squares.model_copy(update={"runs": tmp_path_factory.mktemp("trained")})
    return train_run(config, lambda _: None)
