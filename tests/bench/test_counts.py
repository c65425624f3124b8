from __future__ import annotations

import pytest
import torch

from align_dist.bench.counts import count


@pytest.mark.parametrize(
    ("work", "reads"),
    [
        (lambda x: (x * 2).sum(), 0),
        (lambda x: (x * 2).sum().item(), 1),
        (lambda x: [float(value) for value in x[:3]], 3),
        (lambda x: (x > 0).nonzero(), 1),
        (lambda x: torch.unique(x), 1),
        (lambda x: torch.bincount(x.long()), 1),
        (lambda x: bool((x > 0).all()), 1),
    ],
)
def test_waits_of_the_host_are_counted(work: object, reads: int) -> None:
    assert count(lambda: work(torch.ones(4))).reads == reads  # type: ignore[operator]


def test_more_work_is_more_operations() -> None:
    x = torch.ones(4)
    once, twice = count(lambda: x * 2), count(lambda: x * 2 * 2)
    assert once.operations > 0 and twice.operations - once.operations == once.operations
