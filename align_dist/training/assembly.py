"""Puts a run together from its description: split, loader, networks, method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from align_dist.config import MaskerConfig, OptimiserConfig, RunConfig
from align_dist.data.beton import verify_beton
from align_dist.data.decoder import Augmentation
from align_dist.data.draws import Order, make_order
from align_dist.data.loader import Loader
from align_dist.data.manifest import Manifest
from align_dist.data.splits import Split, make_split
from align_dist.errors import ConfigError, MachineError
from align_dist.methods.base import Context, Method
from align_dist.methods.registry import find_method
from align_dist.networks.backbones import build_backbone, statistics
from align_dist.networks.classifier import Classifier
from align_dist.networks.masker import build_masker
from align_dist.parallel.engine import Engine
from align_dist.parallel.plain import PlainEngine, make_optimiser
from align_dist.training.schedule import Schedule, make_schedule

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Assembly:
    """Everything a run needs, built and checked before the first step."""

    config: RunConfig
    manifest: Manifest
    split: Split
    order: Order
    loader: Loader
    schedule: Schedule
    method: Method
    device: torch.device


def assemble(config: RunConfig) -> Assembly:
    """Builds a run. Raises a UserError for anything its description or its data make impossible."""
    method = find_method(config.method)
    device = choose_device(config.training.device)
    manifest = verify_beton(config.benchmark.beton, quick=True)
    split = split_of(manifest, config)
    order = training_order(manifest, split, config)
    schedule = make_schedule(config.training, order.steps_per_epoch)
    networks = make_networks(config, len(manifest.classes), device, masker=method.uses_masker)
    context = Context(
        config.objective,
        schedule.warmup,
        schedule.masker_start,
        schedule.epoch,
        config.seed,
        sparsity_ramp=schedule.sparsity_ramp,
    )
    built = method(networks, context)
    if built.uses_true_masks and not manifest.has_masks:
        raise ConfigError(f"objective.fixed_mask: `given` needs masks, {config.benchmark.beton} has none")
    loader = make_loader(config, manifest, device)
    return Assembly(config, manifest, split, order, loader, schedule, built, device)


def choose_device(name: str) -> torch.device:
    """`auto` takes the accelerator when there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise MachineError("training.device: cuda was asked for and torch sees none; run `align-dist doctor`")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def split_of(manifest: Manifest, config: RunConfig) -> Split:
    """Who trains on what."""
    protocol = config.protocol
    return make_split(
        manifest,
        kind=protocol.kind,
        source=protocol.source,
        target=protocol.target,
        validation_fraction=protocol.validation_fraction,
        test_fraction=protocol.test_fraction,
        seed=protocol.seed,
    )


def training_order(manifest: Manifest, split: Split, config: RunConfig) -> Order:
    """The order of the training part, balanced over its domains when asked."""
    if len(split.train) < config.data.batch_size:
        raise ConfigError(
            f"data.batch_size: {config.data.batch_size} is more than the {len(split.train)} training images; lower it"
        )
    domains = np.asarray(manifest.domain_indices)[split.train]
    if config.data.balance_domains and config.data.batch_size < len(np.unique(domains)):
        raise ConfigError(f"data.batch_size: {config.data.batch_size} gives some source domain no image; raise it")
    parts = tuple(split.train[domains == domain] for domain in np.unique(domains))
    return make_order(parts, config.data.batch_size, config.seed, config.data.balance_domains)


def make_loader(config: RunConfig, manifest: Manifest, device: torch.device) -> Loader:
    """The loader of a run's beton, with the true masks where there are any: FFCV then compiles once a run."""
    return Loader(
        config.benchmark.beton,
        config.data.image_size,
        config.seed,
        Augmentation(**config.data.augmentation.model_dump()),
        masks=manifest.has_masks,
        workers=config.data.workers,
        device=device,
        normalisation=statistics(config.classifier.backbone),
    )


def make_networks(config: RunConfig, classes: int, device: torch.device, masker: bool) -> dict[str, Engine]:
    """The run's networks in their engines. Initial weights depend on the seed alone, each network its own."""
    networks: dict[str, Engine] = {"classifier": _engine(config, make_classifier(config, classes), device)}
    if masker:
        networks["masker"] = _engine(config, make_masker(config.masker, config.seed), device, config.masker.optimiser)
    return networks


def make_classifier(config: RunConfig, classes: int) -> Classifier:
    """A classifier with the run's initial weights."""
    chosen = config.classifier
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_backbone(chosen.backbone, classes, chosen.pretrained, chosen.small_images)
    return Classifier(network, chosen.freeze_batchnorm)


def make_masker(masker: MaskerConfig, seed: int) -> torch.nn.Module:
    """A masker with the run's initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1_000_003)
        return build_masker(masker.kind, masker.width, masker.area)


def _engine(
    config: RunConfig, module: torch.nn.Module, device: torch.device, optimiser: OptimiserConfig | None = None
) -> PlainEngine:
    layout = torch.channels_last if config.training.channels_last else torch.contiguous_format
    module = module.to(device, memory_format=layout).train()  # type: ignore[call-overload]
    chosen = optimiser or config.classifier.optimiser
    return PlainEngine(
        module,
        make_optimiser(module, chosen.name, chosen.learning_rate, chosen.weight_decay),
        gradient_clip=config.training.gradient_clip,
        precision=PRECISIONS[config.training.precision],
    )
