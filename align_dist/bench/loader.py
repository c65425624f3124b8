"""Loading: align_dist's FFCV loader against torch's DataLoader with torchvision's transforms, and a profile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from align_dist.assembly import make_loader
from align_dist.bench.timing import interleaved_seconds, print_ratios
from align_dist.config import RunConfig
from align_dist.data import kernels
from align_dist.data.augmentation import crop_box
from align_dist.data.benchmarks import read_configured_benchmark
from align_dist.data.comparison import checked_manifest
from align_dist.data.ffcv_compat import Reader
from align_dist.data.manifest import Manifest
from align_dist.data.rendering import decode_jpeg
from align_dist.data.sample_keys import SampleKeys, make_order, pack_keys, sample_ids
from align_dist.data.transfer import make_normaliser
from align_dist.machine import available_cores

IMAGES, PROFILED = 4096, 256


class _Files(torch.utils.data.Dataset[Any]):
    """A dataset as a user would write it: PIL and torchvision with the same augmentation."""

    def __init__(self, config: RunConfig, manifest: Manifest, samples: list[int]) -> None:
        from torchvision.transforms import v2

        augmentation, size, benchmark = config.data.augmentation, config.data.image_size, config.benchmark
        root = read_configured_benchmark(benchmark).root
        self.paths = [root / manifest.paths[i] for i in samples]
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, augmentation.crop_scale, augmentation.crop_ratio),
                v2.RandomHorizontalFlip(augmentation.flip),
                v2.ColorJitter(*augmentation.jitter),
                v2.RandomGrayscale(augmentation.greyscale),
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
    """Print images per second of both loaders, from the same images to normalised float batches, and a profile."""
    manifest = checked_manifest(config.benchmark)
    # A small benchmark is repeated, so that a round is long compared with the start of either loader.
    count = IMAGES // config.data.batch_size * config.data.batch_size
    samples = np.random.default_rng(0).permutation(len(manifest))
    loader = make_loader(config, manifest, torch.device("cpu"))
    order = make_order((samples,), config.data.batch_size, config.seed)
    files = torch.utils.data.DataLoader(
        _Files(config, manifest, np.resize(samples, count).tolist()),
        config.data.batch_size,
        num_workers=available_cores(),
        persistent_workers=True,
    )

    def run_loader() -> None:
        for _ in loader.batches(order.batch, count // config.data.batch_size):
            pass

    def run_dataloader() -> None:
        for pixels in files:
            (pixels.float() / 255 - 0.5) / 0.25

    seconds = interleaved_seconds({"torch DataLoader": run_dataloader, "align_dist": run_loader}, rounds=5)
    title = f"{count} images to {config.data.image_size} px, {available_cores()} workers, median of 5 rounds"
    print_ratios(title, seconds, count, "torch DataLoader")
    _print_profile(profile(config, pack_keys(samples[:PROFILED], 1)))


def _print_profile(microseconds: dict[str, float]) -> None:
    print("per image on one thread, µs: " + " · ".join(f"{step} {spent:.0f}" for step, spent in microseconds.items()))
    cores, all_of_it = available_cores(), sum(microseconds.values())
    print(f"  so {cores} cores can reach {cores * 1e6 / all_of_it:,.0f} images/s", end="")
    if microseconds["decode"]:
        print(f", and would reach {cores * 1e6 / microseconds['decode']:,.0f} if they only decoded", end="")
    print()


def profile(config: RunConfig, sample_keys: SampleKeys) -> dict[str, float]:
    """Microseconds per image of each step of loading, one step at a time on one thread: medians of 5 rounds.

    decode is 0 for raw pixels. greyscale is the cost of its share of images, averaged over all.
    """
    augmentation, size, seed = config.data.augmentation, config.data.image_size, np.uint64(config.seed)
    scale, ratio, strength = (
        np.array(augmentation.crop_scale),
        np.array(augmentation.crop_ratio),
        np.array(augmentation.jitter),
    )
    pictures_in_beton = stored_pictures(config.benchmark.beton, sample_ids(sample_keys))
    sides = [(height, width) for _, height, width in pictures_in_beton]
    boxes = [crop_box(*side, scale, ratio, seed, draw) for side, draw in zip(sides, sample_keys, strict=True)]
    is_jpeg = config.benchmark.storage == "jpg"
    parts = [kernels.reduction(min(height, width), size) if is_jpeg else 1 for _, _, height, width in boxes]
    planes = np.zeros((len(sample_keys), 3, size, size), np.uint8)

    def decode() -> list[NDArray[np.uint8]]:
        if not is_jpeg:
            return [data.reshape(height, width, 3) for data, height, width in pictures_in_beton]
        return [decode_jpeg(*picture, part)[1] for picture, part in zip(pictures_in_beton, parts, strict=True)]

    def resize() -> None:
        for picture, box, part, target in zip(pictures, boxes, parts, planes, strict=True):
            top, left, height, width = (edge / part for edge in box)
            kernels.resize_box(picture, top, left, height, width, False, target)

    def jitter() -> None:
        for image, draw in zip(planes, sample_keys, strict=True):
            kernels.jitter(image, strength, seed, draw)

    def greyscale() -> None:
        for image in planes[: round(augmentation.greyscale * len(planes))]:
            kernels.blend(image, 2, 0.0)

    def normalise() -> None:
        for start in range(0, len(planes), config.data.batch_size):
            normaliser(torch.from_numpy(planes[start : start + config.data.batch_size]))

    normaliser = make_normaliser(torch.device("cpu"), torch.full((3,), 0.5), torch.full((3,), 0.25))
    pictures = decode()
    steps: dict[str, Callable[[], object]] = {
        "decode": decode,
        "resize": resize,
        "jitter": jitter,
        "greyscale": greyscale,
        "normalise": normalise,
    }
    with on_one_thread():
        seconds = interleaved_seconds(steps, rounds=5)
    count = len(sample_keys)
    return {name: 1e6 * t / count if is_jpeg or name != "decode" else 0.0 for name, t in seconds.items()}


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Run torch on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def stored_pictures(beton: Path, samples: NDArray[np.int64]) -> list[tuple[NDArray[np.uint8], int, int]]:
    """Stored bytes (N,), height and width of samples in a beton."""
    reader = Reader(str(beton))
    fields = reader.metadata[f"f{list(reader.handlers).index('image')}"][samples]
    sizes = dict(zip(reader.alloc_table["ptr"].tolist(), reader.alloc_table["size"].tolist(), strict=True))
    content = np.memmap(beton, np.uint8, "r")
    return [
        (content[start : start + sizes[start]], int(field["height"]), int(field["width"]))
        for field, start in zip(fields, fields["data_ptr"].tolist(), strict=True)
    ]
