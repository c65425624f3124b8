"""Cost of preparing a benchmark and computing its order by the number of synthetic images: time and peak memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from align_dist.config import AugmentationConfig, BenchmarkConfig, DataConfig
from align_dist.data.bundles import bundles_within_domains
from align_dist.data.catalogue import Sample
from align_dist.data.loader import Loader
from align_dist.data.manifest import ImageField
from align_dist.data.sample_keys import make_order
from align_dist.data.scan import scan
from align_dist.data.writing import SampleDataset, write_samples
from align_dist.machine import available_cores

COUNTS, MOST = (1_000, 10_000), 100_000
SIDE = 64
STEPS = ("reading and hashing", "near-duplicates", "writing", "opening the beton", "an epoch of orders")

Result = TypeVar("Result")


def bench(benchmark: BenchmarkConfig, data: DataConfig, most: bool) -> None:
    """Print the cost of each step for 1,000 and 10,000 synthetic images, and for 100,000 if `most`."""
    counts = (*COUNTS, MOST) if most else COUNTS
    costs_by_count = {count: measure(count, benchmark, data) for count in counts}
    print(
        f"synthetic images of {SIDE} px in one domain, stored as {benchmark.storage}, {available_cores()} cores: "
        "seconds, peak MiB of the main process"
    )
    print(f"  {'images':20}" + "".join(f"{count:>20,}" for count in counts))
    for step in STEPS:
        costs = [costs_by_count[count][step] for count in counts]
        cells = [f"{seconds:.2f} s {peak / 2**20:,.0f} MiB" for seconds, peak in costs]
        print(f"  {step:20}" + "".join(f"{cell:>20}" for cell in cells))


def measure(count: int, benchmark: BenchmarkConfig, data: DataConfig) -> dict[str, tuple[float, int]]:
    """Seconds and peak bytes of each of STEPS for `count` temporary synthetic images."""
    cores, field = available_cores(), ImageField(benchmark.storage, benchmark.max_side, benchmark.quality)
    with tempfile.TemporaryDirectory() as folder:
        samples, beton = make_pictures(Path(folder), count), Path(folder) / "made.beton"
        facts, reading = cost(lambda: scan(samples, field.max_side, cores))
        _, bundling = cost(lambda: bundles_within_domains(samples, facts))
        pictures = SampleDataset(
            samples, facts, dict.fromkeys(("label", "domain", "sample"), [0] * count), field.max_side
        )
        _, writing = cost(lambda: write_samples(pictures, beton, field, cores))
        _, opening = cost(lambda: Loader(beton, data.image_size, 0, AugmentationConfig()))
        _, ordering = cost(lambda: epoch_of_orders(count, data.batch_size))
    return dict(zip(STEPS, (reading, bundling, writing, opening, ordering), strict=True))


def make_pictures(folder: Path, count: int) -> list[Sample]:
    """Write distinct JPEGs of blurred noise, all of one class, a thousand per folder."""
    samples = []
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        path = folder / str(index // 1000) / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
        samples.append(Sample(path, "made", "picture"))
    return samples


def epoch_of_orders(count: int, batch_size: int) -> None:
    """Compute every batch of an epoch over `count` samples."""
    order = make_order((np.arange(count),), batch_size, seed=0)
    for step in range(round(order.steps_per_epoch)):
        order.batch(step)


def cost(work: Callable[[], Result]) -> tuple[Result, tuple[float, int]]:
    """The result of `work`, its seconds, and the peak memory of this process in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the kernel's record of the peak
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return result, (seconds, 1024 * int(status["VmHWM"].split()[0]))
