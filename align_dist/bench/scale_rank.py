"""One rank of `align-dist bench scale`: timing of a guided step and of all-reduces. Rank 0 prints one line of JSON.

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

from align_dist.assembly import choose_device, make_networks, networks_of
from align_dist.config import AugmentationConfig, RunConfig, load_config
from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch
from align_dist.data.views import ViewGeometry
from align_dist.methods.base import Context, Method, find_method
from align_dist.parallel.batchnorm import SynchronisedBatchNorm
from align_dist.parallel.connect import process_group
from align_dist.parallel.engine import trainable_parameters
from align_dist.parallel.group import Group
from align_dist.parallel.threads import set_torch_threads
from align_dist.schedule import make_schedule

CLASSES, DOMAINS, REPEATS, SMALL = 7, 2, 7, 1024


def main(arguments: list[str]) -> None:
    """Measure with synthetic images, so that only the step is timed and not the loader."""
    config = load_config(Path(arguments[0]), arguments[1:])
    device = choose_device(config.training.device)
    with process_group(config.distributed, device.type) as group:
        set_torch_threads(config.training.threads, group, os.environ)
        measurement = _measure(config, device, group)
        if group.is_first:
            print(json.dumps(measurement))


def _measure(config: RunConfig, device: torch.device, group: Group) -> dict[str, float]:
    schedule = make_schedule(config.training.model_copy(update={"warmup": "0 steps"}), 1.0)
    networks = make_networks(config, networks_of(config, CLASSES, schedule.clock), device, group)
    context = Context(schedule.clock, config.seed, domain_counts=(config.data.batch_size,) * DOMAINS)
    method = find_method(config.method)(networks, config.options, context)
    batch = _batch(config, method, device)
    sizes = [sum(p.numel() for p in trainable_parameters(engine.module).values()) * 4 for engine in networks.values()]
    measurement = {
        "seconds": _seconds(lambda: method.step(batch, 1), device),
        "gradient_bytes": sum(sizes),
        # DDP's buckets, and BatchNorm's sums: two in forward and two in backward per layer.
        "messages": sum(1 + size // (25 * 2**20) for size in sizes)
        + 4 * _count_synchronised(networks["classifier"].module),
    }
    if group.world_size > 1:
        large, small = torch.zeros(max(sum(sizes) // 4, 2**20), device=device), torch.zeros(SMALL // 4, device=device)
        hops = 2 * (group.world_size - 1)
        latency = _seconds(lambda: dist.all_reduce(small), device) / hops
        transfer = _seconds(lambda: dist.all_reduce(large), device) - hops * latency
        measurement |= {
            "latency": latency,
            "bandwidth": hops / group.world_size * large.numel() * 4 / max(transfer, 1e-9),
        }
    return measurement


def _count_synchronised(module: torch.nn.Module) -> int:
    kinds = (SynchronisedBatchNorm, torch.nn.SyncBatchNorm)
    return sum(isinstance(child, kinds) for child in module.modules())


def _batch(config: RunConfig, method: Method[Any], device: torch.device) -> Batch:
    """A rank's batch of data.batch_size images, because the batch per rank is fixed."""
    size, side = config.data.batch_size, config.data.image_size
    images = torch.randn(size, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(size) % CLASSES).to(device)
    sample_keys = np.arange(size, dtype=np.uint64) + np.uint64(1 << 32)
    domains, sides = np.arange(size) % DOMAINS, np.full(size, side)
    views = ViewGeometry(config.seed, AugmentationConfig(), sides, sides)
    share = method.share(GlobalBatch(sample_keys, labels.cpu().numpy(), CLASSES, domains=domains, views=views), 1)
    values = {name: value.to(device) for name, value in share.values.items()}
    masks = torch.full((size, side, side), 0.2, device=device)
    samples = torch.arange(size, device=device)
    domain_labels = torch.from_numpy(domains).to(device)
    return Batch(images, labels, domain_labels, samples, sample_keys, masks, images.roll(1, 0), values)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of several runs after a first run."""
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
