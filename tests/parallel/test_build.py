from __future__ import annotations

import pytest

from align_dist.config import RunConfig, parse_config
from align_dist.errors import ConfigError
from align_dist.parallel.build import check_batch_size
from align_dist.parallel.group import Group


def config(**data: int) -> RunConfig:
    return parse_config({"method": "fixed_mask", "fixed_mask": {"exchange": 1.0}, "data": data})


def test_images_are_paired_within_parts_of_even_size() -> None:
    """The pairs of one process are then those of any number of ranks and parts."""
    check_batch_size(config(batch_size=12, micro_batches=3), Group(0, 2))
    for batch in (config(batch_size=12, micro_batches=3), config(batch_size=4), config(batch_size=20)):
        with pytest.raises(ConfigError):
            check_batch_size(batch, Group(0, 4))
