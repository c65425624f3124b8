"""Assembly of a run from its config: split, loader, networks, method."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from align_dist.config import ClassifierConfig, RunConfig
from align_dist.data.comparison import checked_manifest
from align_dist.data.loader import Loader
from align_dist.data.manifest import Manifest
from align_dist.data.sample_keys import Order
from align_dist.data.split_checks import fixed_warnings, split_warnings
from align_dist.data.splits import Split
from align_dist.errors import ConfigError, MachineError
from align_dist.input_attribution import INPUT_ATTRIBUTIONS, InputAttribution, check_second_order
from align_dist.methods.base import Context, Method, Network, find_method
from align_dist.networks.backbones import build_backbone, map_places
from align_dist.networks.classifier import Classifier
from align_dist.normalisation import input_normalisation
from align_dist.options.clock import Clock
from align_dist.parallel.build import check_batch_size, make_engine
from align_dist.parallel.devices import set_arithmetic
from align_dist.parallel.engine import Engine
from align_dist.parallel.group import Group
from align_dist.parallel.threads import set_torch_threads
from align_dist.places import Places
from align_dist.schedule import Schedule
from align_dist.training_plan import checked_schedule, counts_of, split_of, training_order


@dataclass(frozen=True)
class Assembly:
    """Everything a run needs, built and checked before the first step."""

    config: RunConfig
    manifest: Manifest
    split: Split
    order: Order
    loader: Loader
    schedule: Schedule
    trainable_networks: dict[str, Network]
    method: Method[Any]
    device: torch.device
    group: Group

    @property
    def source_domains(self) -> set[str]:
        """Domains of the training part; empty where the run is evaluated on another benchmark."""
        return {self.manifest.domains[index] for index in np.asarray(self.manifest.domain_indices)[self.split.train]}

    def with_local_networks(self) -> Assembly:
        """The same run with networks that each rank may call on its own. Collective."""
        readers = {name: engine.local_copy() for name, engine in self.method.networks.items()}
        if readers == self.method.networks:
            return self
        method = type(self.method)(readers, self.method.options, self.method.context)
        method.state = dict(self.method.state)
        return replace(self, method=method)


def assemble(config: RunConfig, group: Group | None = None, sources_only: bool = False) -> Assembly:
    """Build a run on its ranks (default: one), and give torch the rank's cores. Collective.

    sources_only: hide the target domains; the loader refuses every image outside the source domains' training and
    validation parts. A hyperparameter search may see no more than that.

    Raises a UserError on every rank where the config or the data make the run impossible.
    """
    ranks = group or Group()
    set_torch_threads(config.training.threads, ranks, os.environ)
    device = choose_device(config.training.device)
    set_arithmetic(device, config.training.precision)
    materials = ranks.run_on_all(lambda: _materials(config, ranks, device, sources_only))
    manifest, split, order, schedule, loader = materials
    trainable_networks = networks_of(config, len(manifest.classes), schedule.clock)
    networks = make_networks(config, trainable_networks, device, ranks)
    counts = counts_of(manifest, split)
    context = Context(schedule.clock, config.seed, config.data.micro_batches, ranks.concatenate, ranks.sum, *counts)
    # On every rank or on none: a method may need pretrained weights, which one machine may lack.
    method = ranks.run_on_all(lambda: find_method(config.method)(networks, config.options, context))
    return Assembly(config, manifest, split, order, loader, schedule, trainable_networks, method, device, ranks)


def _materials(
    config: RunConfig, group: Group, device: torch.device, sources_only: bool
) -> tuple[Manifest, Split, Order, Schedule, Loader]:
    """Everything that is read and checked before networks are built."""
    check_batch_size(config, group)
    if find_method(config.method).takes_whole_batches and config.data.micro_batches > 1:
        raise ConfigError(
            f"data.micro_batches: {config.method} averages over the global batch and needs a rank's whole batch; "
            "leave it at 1"
        )
    manifest = checked_manifest(config.benchmark, compare=group.is_first)
    split = split_of(manifest, config)
    if sources_only:
        split = split.without_tests()
    order = training_order(manifest, split, config)
    schedule = checked_schedule(manifest, split, order, config)
    loader = make_loader(config, manifest, device, group.cores)
    if sources_only:
        loader.allow_only(np.concatenate([split.train, split.validation]))
    return manifest, split, order, schedule, loader


def arithmetic_of(run: Assembly) -> dict[str, str | int]:
    """Device, torch threads, precision and memory format that a run's steps use on this rank."""
    engine, kind = run.method.classifier, run.device.type
    with engine.autocast():
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    kernels = [weight for weight in engine.module.parameters() if weight.dim() == 4 and min(weight.shape) > 1]
    last = bool(kernels) and not kernels[-1].is_contiguous()
    return {
        "device": str(run.device),
        "threads": torch.get_num_threads(),
        "precision": str(precision).removeprefix("torch."),
        "memory_format": "channels_last" if last else "contiguous",
        **({"TF32": str(torch.backends.cudnn.allow_tf32)} if kind == "cuda" else {}),
    }


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the accelerator where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise MachineError("training.device: cuda was asked for, but torch sees none; run `align-dist doctor`")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def warnings_of(run: Assembly) -> list[str]:
    """Warnings about a run's split and BatchNorm, one line each."""
    protocol, classifier = run.config.protocol, run.config.classifier
    lines = []
    if classifier.batchnorm == "frozen" and not classifier.pretrained:
        lines.append(
            "classifier.batchnorm: frozen without pretrained weights: the statistics come from no image, and the run "
            "may learn nothing; set classifier.batchnorm=synchronised and a learning rate such as 1e-3"
        )
    if protocol.kind == "fixed":
        return lines + fixed_warnings(run.manifest, run.split)
    return lines + split_warnings(run.manifest, run.split, protocol.validation_fraction, protocol.test_fraction)


def make_loader(config: RunConfig, manifest: Manifest, device: torch.device, cores: int = 0) -> Loader:
    """The loader of a run's beton, with the true masks where the beton has masks.

    Augmented images bring masks only where the method trains with masks; unaugmented images always do, for the
    metrics. cores: number of workers, unless data.workers is set; 0 for all cores.
    """
    return Loader(
        config.benchmark.beton,
        config.data.image_size,
        config.seed,
        config.data.augmentation,
        masks=manifest.has_masks,
        masks_in_training=config.options.reads_masks,
        workers=config.data.workers or cores,
        device=device,
        normalisation=input_normalisation(config.classifier.backbone),
    )


def networks_of(config: RunConfig, classes: int, clock: Clock) -> dict[str, Network]:
    """The trainable networks of a run by name: the classifier and the method's own."""
    classifier = Network(lambda: make_classifier(config, classes), config.classifier.optimiser)
    return {"classifier": classifier, **find_method(config.method).own_networks(config.options, clock)}


def make_networks(
    config: RunConfig, trainable_networks: dict[str, Network], device: torch.device, group: Group
) -> dict[str, Engine]:
    """The run's networks, each wrapped in its engine."""
    return {
        name: make_engine(config, build_seeded(network, config.seed, place), network.optimiser, device, group)
        for place, (name, network) in enumerate(trainable_networks.items())
    }


def build_seeded(network: Network, seed: int, place: int) -> torch.nn.Module:
    """A network with initial weights that depend only on the seed and the network's place among the run's networks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1_000_003 * place)
        return network.build()


def make_classifier(config: RunConfig, classes: int) -> Classifier:
    """A classifier whose initial weights follow from torch's seed."""
    settings = config.classifier
    network = build_backbone(settings.backbone, classes, settings.pretrained, settings.small_images)
    attribution, places = _attribution(settings, network), _places(settings, network)
    if places is not None and config.data.image_size <= places.stride:
        raise ConfigError(
            f"data.image_size: {config.data.image_size} px give {settings.backbone} a map of one cell, which points "
            f"nowhere; take more than {places.stride:.0f}, or a backbone for small images such as resnet8"
        )
    is_uneven = attribution is None and settings.cam_places != "even"
    return Classifier(network, settings.batchnorm == "frozen", places if is_uneven else None, attribution)


def _attribution(settings: ClassifierConfig, network: torch.nn.Module) -> InputAttribution | None:
    """The input attribution, None for Grad-CAM. Raises ConfigError where no loss can train through the attribution."""
    if settings.attribution == "grad_cam":
        return None
    try:
        check_second_order(network)
    except ValueError as error:
        raise ConfigError(
            f"classifier.attribution: {settings.attribution} of {settings.backbone} cannot be trained ({error}); take "
            "grad_cam, or a backbone such as resnet50"
        ) from None
    return INPUT_ATTRIBUTIONS[settings.attribution]


def _places(settings: ClassifierConfig, network: torch.nn.Module) -> Places | None:
    """Positions of the cells of the last feature map; None where they are unknown, and the settings take an even grid.
    Raises ConfigError where they are unknown, and Grad-CAM's cells lie there.
    """
    try:
        return map_places(network, settings.backbone, settings.pretrained)
    except ValueError as error:
        if settings.cam_places == "even" or settings.attribution != "grad_cam":
            return None
        raise ConfigError(f"classifier.cam_places: {error}; set classifier.cam_places=even") from None
