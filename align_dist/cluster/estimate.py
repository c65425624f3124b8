"""Estimates of what a run will need: bytes on disk, seconds for a step and for a save."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from align_dist.config import RunConfig, load_config
from align_dist.data.beton import is_written, verify_beton
from align_dist.errors import UserError
from align_dist.options.clock import Clock
from align_dist.runs.folder import CONFIG
from align_dist.runs.progress import progress_of

if TYPE_CHECKING:
    from torch import Tensor

NO_TIME = Clock(0, 0, 1.0)
ASSUMED_CLASSES = 10
PROBE_BYTES = 32 * 2**20
# Tensors of the size of the weights that an optimiser keeps.
MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}


def classes_of(config: RunConfig) -> int:
    """The beton's number of classes; ten before the beton is written, because a class is one row of the last layer."""
    beton = config.benchmark.beton
    return len(verify_beton(beton, quick=True).classes) if is_written(beton) else ASSUMED_CLASSES


def network_bytes(config: RunConfig, classes: int) -> dict[str, int]:
    """Bytes of each network's weights and buffers, without allocating them."""
    import torch

    from align_dist.methods.base import find_method
    from align_dist.networks.backbones import build_backbone

    settings = config.classifier
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that pretrained weights are not kept, which is meant
        modules = {"classifier": build_backbone(settings.backbone, classes, False, settings.small_images)}
        for name, network in find_method(config.method).own_networks(config.options, NO_TIME).items():
            with suppress(UserError):  # weights missing on this machine may be installed where the run trains
                modules[name] = network.build()
    return {name: _bytes_of([*module.parameters(), *module.buffers()]) for name, module in modules.items()}


def _bytes_of(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def checkpoint_bytes(config: RunConfig, classes: int) -> int:
    """Bytes of one checkpoint: weights and the optimisers' moments."""
    from align_dist.methods.base import find_method

    optimisers = {"classifier": config.classifier.optimiser}
    for name, network in find_method(config.method).own_networks(config.options, NO_TIME).items():
        optimisers[name] = network.optimiser
    sizes = network_bytes(config, classes)
    return sum(size * (1 + MOMENTS[optimisers[name].name]) for name, size in sizes.items())


def run_bytes(config: RunConfig, classes: int) -> int:
    """Bytes that a run needs, without events and contact sheets: three checkpoints while saving, and each selection."""
    weights = sum(network_bytes(config, classes).values())
    return 3 * checkpoint_bytes(config, classes) + len(config.evaluation.selections) * weights


def existing_ancestor(folder: Path) -> Path:
    """The folder itself, or the nearest parent that exists."""
    return next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())


def save_seconds(folder: Path, size: int) -> float:
    """Seconds that `size` bytes take to reach a folder's disk, extrapolated from at most 32 MiB. Raises OSError."""
    probe = min(size, PROBE_BYTES)
    with tempfile.TemporaryFile(dir=existing_ancestor(folder)) as file:
        start = time.perf_counter()
        file.write(bytes(probe))
        file.flush()
        os.fsync(file.fileno())
        return (time.perf_counter() - start) * size / max(probe, 1)


def step_seconds(config: RunConfig) -> float | None:
    """Seconds of the slowest step among this experiment's runs with the same method and batch size; None without such
    a run.
    """
    seconds = []
    for description in (config.runs / config.experiment).glob(f"*/{CONFIG}"):
        try:
            other = load_config(description)
        except UserError:
            continue
        if other.data.batch_size == config.data.batch_size and other.method == config.method:
            rate = progress_of(description.parent).images_per_second
            if rate:
                seconds.append(other.data.batch_size / rate)
    return max(seconds, default=None)
