"""Training speed: guided ALIGN steps with loading, in `align-dist train` and in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch

from align_dist.assembly import Assembly, arithmetic_of, assemble, build_seeded
from align_dist.bench.plain_pytorch import Pictures, PlainAlign, augmentation, make_batches
from align_dist.bench.timing import interleaved_seconds, print_ratios
from align_dist.config import RunConfig
from align_dist.data.benchmarks import read_configured_benchmark
from align_dist.errors import ConfigError
from align_dist.machine import available_cores
from align_dist.normalisation import input_normalisation
from align_dist.options import AlignOptions
from align_dist.training.batches import share_of

# Batches per turn. Loading restarts in each turn for both, so that neither loads during the other's turn.
BATCHES, ROUNDS = 4, 5


def bench(config: RunConfig, rounds: int = ROUNDS) -> None:
    """Print images per second of both, from the same images, and their ratio. Raises ConfigError for too few images.

    λ4 is 0 in both, because the comparison excludes the second, mixed batch.
    """
    run = assemble(_without_regulariser(config.with_method("align")))
    images = BATCHES * config.data.batch_size
    if len(run.split.train) < images:
        raise ConfigError(f"data.batch_size: {BATCHES} batches are more than {len(run.split.train)} images; lower it")
    seconds = interleaved_seconds({"plain PyTorch": _plain_turn(run), "align_dist": _align_dist_turn(run)}, rounds)
    arithmetic = arithmetic_of(run)
    print_ratios(
        f"{config.classifier.backbone}, {config.data.image_size} px, batch {config.data.batch_size}: guided ALIGN "
        f"steps with loading on {arithmetic['device']}, {arithmetic['threads']} threads; ours "
        f"{arithmetic['precision']}, {arithmetic['memory_format']}; median of {rounds} turns of {images} images",
        seconds,
        images,
        "plain PyTorch",
    )


def _without_regulariser(config: RunConfig) -> RunConfig:
    options = config.options.model_copy(update={"lambda4": 0.0})
    return config.model_copy(update={"methods": {config.method: options}})


def _align_dist_turn(run: Assembly) -> Callable[[], None]:
    """Guided steps on the run's batches as in `align-dist train`."""
    guided_step = run.schedule.length

    def turn() -> None:
        shares = run.loader.shares(lambda index: share_of(run, run.order.batch(index), guided_step), BATCHES)
        for index, batch in enumerate(shares):
            run.method.step(batch, guided_step + index)
        _wait_for_device(run.device)

    return turn


def _plain_turn(run: Assembly) -> Callable[[], None]:
    """The same networks, initial weights, learning rates, batch size and files in plain PyTorch."""
    config, benchmark = run.config, run.config.benchmark
    root = read_configured_benchmark(benchmark).root
    samples = run.split.train[: BATCHES * config.data.batch_size]
    files = [(root / run.manifest.paths[sample], int(run.loader.labels[sample])) for sample in samples]
    normalisation = input_normalisation(config.classifier.backbone)
    transform = augmentation(config.data.augmentation, config.data.image_size, normalisation)
    batches = make_batches(Pictures(files, transform), config.data.batch_size, available_cores())
    trainable = list(run.trainable_networks.values())
    networks = [build_seeded(network, config.seed, place).to(run.device) for place, network in enumerate(trainable)]
    rates = [network.optimiser.learning_rate for network in trainable]
    options = config.options
    assert isinstance(options, AlignOptions)
    plain = PlainAlign(networks[0].network, networks[1], options, (rates[0], rates[1]))  # type: ignore[arg-type]

    def turn() -> None:
        for images, labels in batches:
            plain.step(images.to(run.device), labels.to(run.device))
        _wait_for_device(run.device)

    return turn


def _wait_for_device(device: torch.device) -> None:
    """Wait until an accelerator has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()
