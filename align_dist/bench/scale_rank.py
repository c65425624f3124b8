"""One rank of `align-dist bench scale`: times a guided step and all-reduces; rank 0 prints one line of JSON.

python -m align_dist.bench.scale_rank CONFIG [KEY=VALUE ...]
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from align_dist.assembly import choose_device, learners_of, make_networks
from align_dist.config import RunConfig, load_config
from align_dist.data.batch import Batch
from align_dist.data.decoder import Augmentation
from align_dist.data.share import GlobalBatch
from align_dist.data.views import Views
from align_dist.methods.base import Context, Method
from align_dist.methods.registry import find_method
from align_dist.parallel.batchnorm import SynchronisedBatchNorm
from align_dist.parallel.connect import connected
from align_dist.parallel.engine import trainable
from align_dist.parallel.group import Group
from align_dist.parallel.threads import use_cores
from align_dist.schedule import make_schedule

CLASSES, DOMAINS, REPEATS, SMALL = 7, 2, 7, 1024


def main(arguments: list[str]) -> None:
    """Measures, with synthetic pictures: what is timed is the step, not the loader."""
    config = load_config(Path(arguments[0]), arguments[1:])
    device = choose_device(config.training.device)
    with connected(config.distributed, device.type) as group:
        use_cores(config.training.threads, group, os.environ)
        found = _measure(config, device, group)
        if group.is_first:
            print(json.dumps(found))


def _measure(config: RunConfig, device: torch.device, group: Group) -> dict[str, float]:
    schedule = make_schedule(config.training.model_copy(update={"warmup": "0 steps"}), 1.0)
    networks = make_networks(config, learners_of(config, CLASSES, schedule.clock), device, group)
    context = Context(schedule.clock, config.seed, domain_counts=(config.data.batch_size,) * DOMAINS)
    method = find_method(config.method)(networks, config.options, context)
    batch = _batch(config, method, device)
    sizes = [sum(p.numel() for p in trainable(engine.module).values()) * 4 for engine in networks.values()]
    found = {
        "seconds": _seconds(lambda: method.step(batch, 1), device),
        "gradient_bytes": sum(sizes),
        # DDP's buckets, and BatchNorm's sums: two forward and two backward a layer.
        "messages": sum(1 + size // (25 * 2**20) for size in sizes) + 4 * _synchronised(networks["classifier"].module),
    }
    if group.world_size > 1:
        large, small = torch.zeros(max(sum(sizes) // 4, 2**20), device=device), torch.zeros(SMALL // 4, device=device)
        hops = 2 * (group.world_size - 1)
        latency = _seconds(lambda: dist.all_reduce(small), device) / hops
        travelling = _seconds(lambda: dist.all_reduce(large), device) - hops * latency
        found |= {"latency": latency, "bandwidth": hops / group.world_size * large.numel() * 4 / max(travelling, 1e-9)}
    return found


def _synchronised(module: torch.nn.Module) -> int:
    kinds = (SynchronisedBatchNorm, torch.nn.SyncBatchNorm)
    return sum(isinstance(child, kinds) for child in module.modules())


def _batch(config: RunConfig, method: Method[Any], device: torch.device) -> Batch:
    """A rank's share at the size that the config gives one rank: the batch is fixed a rank, not over all."""
    size, side = config.data.batch_size, config.data.image_size
    images = torch.randn(size, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(size) % CLASSES).to(device)
    draws = np.arange(size, dtype=np.uint64) + np.uint64(1 << 32)
    domains, sides = np.arange(size) % DOMAINS, np.full(size, side)
    views = Views(config.seed, Augmentation(), sides, sides)
    share = method.share(GlobalBatch(draws, labels.cpu().numpy(), CLASSES, domains=domains, views=views), 1)
    values = {name: value.to(device) for name, value in share.values.items()}
    masks = torch.full((size, side, side), 0.2, device=device)
    samples = torch.arange(size, device=device)
    found = torch.from_numpy(domains).to(device)
    return Batch(images, labels, found, samples, draws, masks, images.roll(1, 0), values)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The median of a few runs after a first one."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return median(times[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
