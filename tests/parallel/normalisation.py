"""One rank's share of steps through SynchronisedBatchNorm: `python tests/parallel/normalisation.py FOLDER ENGINE`.

Rank 0 writes FOLDER/WORLD_SIZE.pt: by case what every rank saw. The test runs the same steps, by `steps_of`, on the
whole batch through torch's own BatchNorm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from align_dist.config import DistributedConfig
from align_dist.parallel.batchnorm import synchronise_batchnorm
from align_dist.parallel.connect import process_group

FEATURES, COUNT, STEPS = 3, 12, 3
CASES: dict[str, Callable[[], nn.Module]] = {
    "images": lambda: nn.BatchNorm2d(FEATURES, momentum=0.3, eps=1e-3),
    "cumulative": lambda: nn.BatchNorm2d(FEATURES, momentum=None),
    "without weights": lambda: nn.BatchNorm2d(FEATURES, affine=False),
    "without statistics": lambda: nn.BatchNorm2d(FEATURES, track_running_stats=False),
    "vectors": lambda: nn.Sequential(nn.Flatten(), nn.Linear(FEATURES * 20, 5), nn.BatchNorm1d(5)),
    "network": lambda: nn.Sequential(nn.Conv2d(FEATURES, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.BatchNorm2d(4)),
}


def make_module(case: str) -> nn.Module:
    """Float64, with weights and statistics that are not those it is born with."""
    torch.manual_seed(0)
    module = CASES[case]().double()
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
    return module


def images_of(step: int) -> Tensor:
    """Far from zero, each picture with its own brightness and contrast: no rank's share is like the whole."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(COUNT, FEATURES, 4, 5, generator=generator, dtype=torch.float64)
    return (3 + images) * torch.arange(1, COUNT + 1).view(-1, 1, 1, 1)


def one_pass(module: nn.Module, images: Tensor) -> dict[str, Any]:
    """Forward and backward of a sum over pictures, whose gradients over all ranks add up."""
    leaf = images.clone().requires_grad_()
    outputs = module(leaf)
    module.zero_grad(set_to_none=True)
    outputs.square().mul(torch.linspace(-1, 2, outputs[0].numel()).view_as(outputs[0])).sin().sum().backward()
    return {
        "outputs": outputs.detach(),
        "inputs": leaf.grad,
        "weights": {name: value.grad for name, value in module.named_parameters()},
        "buffers": {name: value.clone() for name, value in module.named_buffers()},
    }


def steps_of(module: nn.Module, rows: slice) -> list[dict[str, Any]]:
    """Some passes in training, one in evaluation."""
    module.train()
    passes = [one_pass(module, images_of(step)[rows]) for step in range(STEPS)]
    module.eval()
    return [*passes, one_pass(module, images_of(STEPS)[rows])]


if __name__ == "__main__":
    with process_group(DistributedConfig(engine=sys.argv[2], timeout=60), "cpu") as group:
        share = slice(group.rank, None, group.world_size)
        results = {}
        for case in CASES:
            module = nn.Sequential(make_module(case))
            synchronise_batchnorm(module, torch.device("cpu"))
            results[case] = group.gather(steps_of(module[0], share))
        if group.is_first:
            torch.save(results, Path(sys.argv[1]) / f"{group.world_size}.pt")
