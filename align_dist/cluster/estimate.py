"""What a run will need, before there is one: bytes on disk, seconds for a step and for a save."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from align_dist.config import RunConfig, load_config
from align_dist.data.beton import is_written, verify_beton
from align_dist.errors import UserError
from align_dist.methods.clock import Clock
from align_dist.runs.folder import CONFIG
from align_dist.runs.progress import progress_of

NO_TIME = Clock(0, 0, 1.0)
UNREAD_CLASSES = 10
PROBE_BYTES = 32 * 2**20
# Copies of the weights beside themselves that an optimiser keeps.
MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}


def classes_of(config: RunConfig) -> int:
    """The beton's number of classes; ten before there is a beton: a class more is a row of the last layer."""
    beton = config.benchmark.beton
    return len(verify_beton(beton, quick=True).classes) if is_written(beton) else UNREAD_CLASSES


def network_bytes(config: RunConfig, classes: int) -> dict[str, int]:
    """Bytes of each network's weights and buffers; nothing is allocated."""
    import torch

    from align_dist.methods.registry import find_method
    from align_dist.networks.backbones import build_backbone

    chosen = config.classifier
    with torch.device("meta"):
        built = {"classifier": build_backbone(chosen.backbone, classes, False, chosen.small_images)}
        for name, network in find_method(config.method).own_networks(config.options, NO_TIME).items():
            with suppress(UserError):  # weights that are not installed here may be there where the run is
                built[name] = network.build()
    tensors = {name: [*module.parameters(), *module.buffers()] for name, module in built.items()}
    return {name: sum(tensor.numel() * tensor.element_size() for tensor in found) for name, found in tensors.items()}


def checkpoint_bytes(config: RunConfig, classes: int) -> int:
    """Bytes of one checkpoint: weights and the optimisers' moments."""
    from align_dist.methods.registry import find_method

    own = find_method(config.method).own_networks(config.options, NO_TIME)
    optimisers = {"classifier": config.classifier.optimiser, **{name: made.optimiser for name, made in own.items()}}
    sizes = network_bytes(config, classes)
    return sum(size * (1 + MOMENTS[optimisers[name].name]) for name, size in sizes.items())


def run_bytes(config: RunConfig, classes: int) -> int:
    """Bytes a run leaves, without events and pictures: two checkpoints (three while saving), and each selection."""
    weights = sum(network_bytes(config, classes).values())
    return 3 * checkpoint_bytes(config, classes) + len(config.evaluation.selections) * weights


def existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(place for place in [folder.absolute(), *folder.absolute().parents] if place.exists())


def save_seconds(folder: Path, size: int) -> float:
    """How long `size` bytes take to reach the disk of a folder, measured with a part of them. Raises OSError."""
    part = min(size, PROBE_BYTES)
    with tempfile.TemporaryFile(dir=existing(folder)) as file:
        before = time.perf_counter()
        file.write(bytes(part))
        file.flush()
        os.fsync(file.fileno())
        return (time.perf_counter() - before) * size / max(part, 1)


def step_seconds(config: RunConfig) -> float | None:
    """The slowest step that this experiment's runs have shown at this batch size; None where none has run yet."""
    found = []
    for description in (config.runs / config.experiment).glob(f"*/{CONFIG}"):
        try:
            other = load_config(description)
        except UserError:
            continue
        if other.data.batch_size == config.data.batch_size and other.method == config.method:
            rate = progress_of(description.parent).images_per_second
            if rate:
                found.append(other.data.batch_size / rate)
    return max(found, default=None)
