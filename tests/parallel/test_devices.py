from __future__ import annotations

import pytest
import torch
from refusals import raises

from align_dist.errors import MachineError
from align_dist.parallel.devices import check_distinct_gpus, gpu_index, set_arithmetic
from align_dist.parallel.ranks import Ranks


@pytest.mark.parametrize("local_rank", range(4))
def test_a_rank_has_the_gpu_of_its_number(local_rank: int) -> None:
    assert gpu_index(Ranks(4 + local_rank, 8, local_rank, 4), visible=4) == local_rank


@pytest.mark.parametrize("local_rank", range(4))
def test_a_gpu_that_is_shown_alone_is_the_ranks_own(local_rank: int) -> None:
    """Slurm's --gpus-per-task=1."""
    assert gpu_index(Ranks(local_rank, 4, local_rank, 4), visible=1) == 0


def test_more_ranks_than_gpus_are_refused() -> None:
    assert gpu_index(Ranks(1, 3, 1, 3), visible=2) == 1
    with pytest.raises(MachineError):
        gpu_index(Ranks(2, 3, 2, 3), visible=2)


def test_two_ranks_on_one_gpu_are_refused() -> None:
    check_distinct_gpus([("a", "GPU-1"), ("a", "GPU-2"), ("b", "GPU-1")])
    with raises(MachineError, "1 and 3"):
        check_distinct_gpus([("a", "GPU-1"), ("a", "GPU-2"), ("b", "GPU-1"), ("a", "GPU-2")])


def test_a_cpu_has_nothing_to_set() -> None:
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    set_arithmetic(torch.device("cpu"), "float32")
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == before
