"""What loading costs: our FFCV loader against torch's DataLoader with torchvision's transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import align_dist.networks.torchvision_compat  # noqa: F401
from align_dist.bench.timing import print_ratios, seconds_in_turn
from align_dist.config import RunConfig
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.draws import make_order
from align_dist.data.manifest import Manifest
from align_dist.data.tree import beton_of
from align_dist.machine import available_cores
from align_dist.training.assembly import make_loader

IMAGES = 1024


class _Files(torch.utils.data.Dataset[Any]):
    """What a user would write: PIL and torchvision, the same augmentation."""

    def __init__(self, config: RunConfig, manifest: Manifest, samples: list[int]) -> None:
        from torchvision.transforms import v2

        chosen, size, benchmark = config.data.augmentation, config.data.image_size, config.benchmark
        root = read_benchmark(benchmark.name, benchmark.root, benchmark.masks).root
        self.paths = [root / manifest.paths[i] for i in samples]
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, chosen.crop_scale, chosen.crop_ratio),
                v2.RandomHorizontalFlip(chosen.flip),
                v2.ColorJitter(*chosen.jitter),
                v2.RandomGrayscale(chosen.greyscale),
                v2.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image

        with Image.open(self.paths[index]) as picture:
            pixels: torch.Tensor = self.transform(picture.convert("RGB"))
            return pixels


def bench(config: RunConfig) -> None:
    """Prints images a second of both, from the same pictures to normalised float batches."""
    manifest = beton_of(config.benchmark)
    count = min(IMAGES, len(manifest)) // config.data.batch_size * config.data.batch_size
    samples = np.random.default_rng(0).permutation(len(manifest))[:count]
    loader = make_loader(config, manifest, torch.device("cpu"))
    order = make_order((samples,), config.data.batch_size, config.seed, balanced=False)
    files = torch.utils.data.DataLoader(
        _Files(config, manifest, samples.tolist()), config.data.batch_size, num_workers=available_cores()
    )

    def ours() -> None:
        for _ in loader.batches(order.batch, count // config.data.batch_size):
            pass

    def theirs() -> None:
        for pixels in files:
            (pixels.float() / 255 - 0.5) / 0.25

    seconds = seconds_in_turn({"torch DataLoader": theirs, "align_dist": ours}, rounds=5)
    title = f"{count} images to {config.data.image_size} px, {available_cores()} workers, median of 5 turns"
    print_ratios(title, seconds, count, "torch DataLoader")
