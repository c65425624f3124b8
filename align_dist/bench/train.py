"""What training costs: guided ALIGN steps with loading, as `align-dist train` runs them against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch

from align_dist.assembly import Assembly, arithmetic_of, assemble, seeded
from align_dist.bench.plain_pytorch import Pictures, PlainAlign, augmentation, make_batches
from align_dist.bench.timing import print_ratios, seconds_in_turn
from align_dist.config import RunConfig
from align_dist.data.benchmarks import read_described
from align_dist.errors import ConfigError
from align_dist.machine import available_cores
from align_dist.methods.options import AlignOptions
from align_dist.networks.backbones import statistics
from align_dist.training.batches import share_of

# Batches of a turn: loading starts anew in each, for both, so that neither loads in the other's time.
BATCHES, ROUNDS = 4, 5


def bench(config: RunConfig, rounds: int = ROUNDS) -> None:
    """Prints images a second of both, from the same pictures, and their ratio. Raises ConfigError for few pictures.

    λ4 is 0 in both: its second, mixed batch is no part of the comparison.
    """
    run = assemble(_unregularised(config.with_method("align")))
    images = BATCHES * config.data.batch_size
    if len(run.split.train) < images:
        raise ConfigError(f"data.batch_size: {BATCHES} batches are more than {len(run.split.train)} images; lower it")
    seconds = seconds_in_turn({"plain PyTorch": _theirs(run), "align_dist": _ours(run)}, rounds)
    told = arithmetic_of(run)
    print_ratios(
        f"{config.classifier.backbone}, {config.data.image_size} px, batch {config.data.batch_size}: guided ALIGN "
        f"steps with loading on {told['device']}, {told['threads']} threads; ours {told['precision']}, "
        f"{told['memory_format']}; median of {rounds} turns of {images} images",
        seconds,
        images,
        "plain PyTorch",
    )


def _unregularised(config: RunConfig) -> RunConfig:
    options = config.options.model_copy(update={"lambda4": 0.0})
    return config.model_copy(update={"methods": {config.method: options}})


def _ours(run: Assembly) -> Callable[[], None]:
    """What `align-dist train` does with the run's batches once guidance has started."""
    guided = run.schedule.length

    def turn() -> None:
        shares = run.loader.shares(lambda index: share_of(run, run.order.batch(index), guided), BATCHES)
        for index, batch in enumerate(shares):
            run.method.step(batch, guided + index)
        _finish(run.device)

    return turn


def _theirs(run: Assembly) -> Callable[[], None]:
    """The same networks, initial weights, optimisers' rates and batch size in plain PyTorch, from the same files."""
    config, benchmark = run.config, run.config.benchmark
    root = read_described(benchmark).root
    chosen = run.split.train[: BATCHES * config.data.batch_size]
    files = [(root / run.manifest.paths[sample], int(run.loader.labels[sample])) for sample in chosen]
    transform = augmentation(config.data.augmentation, config.data.image_size, statistics(config.classifier.backbone))
    batches = make_batches(Pictures(files, transform), config.data.batch_size, available_cores())
    learners = list(run.learners.values())
    networks = [seeded(learner, config.seed, place).to(run.device) for place, learner in enumerate(learners)]
    rates = [learner.optimiser.learning_rate for learner in learners]
    options = config.options
    assert isinstance(options, AlignOptions)
    theirs = PlainAlign(networks[0].network, networks[1], options, (rates[0], rates[1]))  # type: ignore[arg-type]

    def turn() -> None:
        for images, labels in batches:
            theirs.step(images.to(run.device), labels.to(run.device))
        _finish(run.device)

    return turn


def _finish(device: torch.device) -> None:
    """Waits for what an accelerator has still to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()
