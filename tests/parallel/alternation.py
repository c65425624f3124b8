"""One rank's part of a list of trials, each a few alternating steps on pictures made from the step's number.

    python tests/parallel/alternation.py FOLDER ENGINE TRIALS.json

TRIALS maps names to settings: a run's config and the keys of `Trial`. Rank 0 writes FOLDER/NAME.pt: the networks,
their optimisers, and what every rank logged and holds; equal files mean equal training. All trials share one
process group, for starting Python and DeepSpeed takes longer than they do.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import methods.made_up  # noqa: F401
import numpy as np
import planted
import torch
from shares import with_share

from align_dist.config import DistributedConfig, RunConfig, parse_config
from align_dist.data.batch import Batch
from align_dist.input_attribution import INPUT_ATTRIBUTIONS
from align_dist.methods.base import Context, Method, find_method
from align_dist.networks.backbones import build_backbone
from align_dist.networks.classifier import Classifier
from align_dist.networks.receptive_field import places_of
from align_dist.options.clock import Clock
from align_dist.parallel.build import check_batch_size, make_engine
from align_dist.parallel.connect import process_group
from align_dist.parallel.engine import Engine, Terms
from align_dist.parallel.group import Group
from align_dist.schedule import make_schedule

CLASSES, SIDE = 3, 32
EPOCH = 4.0
# Long enough for a busy machine; a rank that died must not hold the others for pytest's limit.
TIMEOUT = 120


@dataclass(frozen=True)
class Trial:
    """What a trial is besides its run's config.

    steps, first: how many, and the number of the first. dtype: of weights and pictures. closed_form: of Grad-CAM.
    resume: the trial whose state it starts from. poison: step and rank of a picture with a NaN. plant: the name of
    a mistake in `planted`.
    """

    steps: int = 5
    first: int = 0
    dtype: str = "float32"
    closed_form: bool = True
    resume: str | None = None
    poison: list[int] | None = None
    plant: str | None = None


def global_batch(step: int, size: int) -> Batch:
    """The same pictures at a step, however many ranks share them. Classes differ in the place of a light square, which
    masks mark but one in five.
    """
    generator = torch.Generator().manual_seed(1000 + step)
    labels = torch.arange(size) % CLASSES
    images = torch.randn(size, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    masks = torch.zeros(size, SIDE, SIDE)
    for index, label in enumerate(labels.tolist()):
        images[index, :, 8 * label : 8 * label + 8, 8:16] += 2
        masks[index, 8 * label : 8 * label + 8, 8:16] = float(index % 5 > 0)
    samples = torch.arange(size) + size * step
    sample_keys = samples.numpy().astype(np.uint64) + np.uint64(1 << 32)
    domains = torch.arange(size) % 2  # of two ranks each has one
    return Batch(images.to(torch.get_default_dtype()), labels, domains, samples, sample_keys, masks)


def make_networks(config: RunConfig, group: Group, closed_form: bool) -> dict[str, Engine]:
    torch.manual_seed(0)
    network = build_backbone("resnet8", CLASSES, False, False)
    attribution = INPUT_ATTRIBUTIONS.get(config.classifier.attribution)
    classifier = Classifier(network, config.classifier.batchnorm == "frozen", places_of(network), attribution)
    classifier.closed_form = closed_form
    own = find_method(config.method).own_networks(config.options, clock_of(config))
    built = {"classifier": (classifier, config.classifier.optimiser)}
    built |= {name: (network.build(), network.optimiser) for name, network in own.items()}
    device = torch.device("cpu")
    return {name: make_engine(config, *network, device, group) for name, network in built.items()}


def clock_of(config: RunConfig) -> Clock:
    return make_schedule(config.training, EPOCH).clock


def take_steps(method: Method[Any], trial: Trial, size: int, group: Group) -> list[Terms]:
    logged = []
    for step in range(trial.first, trial.first + trial.steps):
        whole = global_batch(step, size)
        batch = with_share(whole, method, step, CLASSES, group.rank, group.world_size)
        if trial.poison == [step, group.rank]:
            batch.images[0, 0, 0, 0] = float("nan")
        logged.append({name: torch.as_tensor(value).clone() for name, value in method.step(batch, step).items()})
    return logged


def train(config: RunConfig, trial: Trial, folder: Path, group: Group) -> dict[str, Any]:
    check_batch_size(config, group)
    networks = make_networks(config, group, trial.closed_form)
    parts = config.data.micro_batches
    context = Context(clock_of(config), config.seed, parts, group.concatenate, group.sum, (60, 60))
    method = find_method(config.method)(networks, config.options, context)
    if trial.resume:
        saved = torch.load(folder / f"{trial.resume}.pt", weights_only=True)
        for name, engine in networks.items():
            engine.load_state_dict(saved["networks"][name])
        method.state |= saved["method"]
    with getattr(planted, trial.plant)(networks) if trial.plant else nullcontext():
        logged = take_steps(method, trial, config.data.batch_size, group)
    return {
        "networks": {name: engine.state_dict() for name, engine in networks.items()},
        "method": method.state,
        "logged": group.gather(logged),
        "healthy": group.gather({name: float(engine.healthy) for name, engine in networks.items()}),
        "weights": group.gather({name: engine.weights() for name, engine in networks.items()}),
    }


def outcome(settings: dict[str, Any], folder: Path, group: Group) -> dict[str, Any]:
    """What training gave, or how it failed, on each rank: a trial may be made to fail, and others follow it."""
    keys = {field.name for field in fields(Trial)}
    trial = Trial(**{key: value for key, value in settings.items() if key in keys})
    config = parse_config({key: value for key, value in settings.items() if key not in keys})
    torch.set_default_dtype(getattr(torch, trial.dtype))
    try:
        return train(config, trial, folder, group)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main(folder: Path, engine: str, trials: dict[str, dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    with process_group(DistributedConfig(engine=engine, timeout=TIMEOUT), "cpu") as group:
        for name, settings in trials.items():
            result = outcome(settings, folder, group)
            if group.is_first:
                torch.save(result, folder / f"{name}.pt")
            group.any(False)  # nobody reads a file before it is there


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(Path(sys.argv[3]).read_text()))
