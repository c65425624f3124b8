"""Random batches, and any registered method on tiny networks in real engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from align_dist.data.batch import Batch
from align_dist.input_attribution import INPUT_ATTRIBUTIONS
from align_dist.methods.base import Context, Method, find_method
from align_dist.networks.backbones import build_backbone
from align_dist.networks.classifier import Classifier
from align_dist.options.clock import Clock
from align_dist.options.registry import find_options
from align_dist.parallel.engine import Engine
from align_dist.parallel.plain import PlainEngine, make_optimiser
from align_dist.places import Places

torch.set_num_threads(1)
CLASSES, COUNT, SIDE = 3, 6, 32
MASKER = {"width": 4, "area": 0.4}
MakeEngine = Callable[[nn.Module], Engine]


def make_batch(seed: int = 0, masks: Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    samples = torch.arange(COUNT) + COUNT * seed
    return Batch(
        images=torch.randn(COUNT, 3, SIDE, SIDE, generator=generator),
        labels=torch.tensor([0, 1, 2, 0, 1, 0]),
        domains=torch.tensor([0, 0, 1, 1, 0, 1]),
        samples=samples,
        sample_keys=samples.numpy().astype(np.uint64) + np.uint64(1 << 32),
        masks=torch.rand(COUNT, SIDE, SIDE, generator=generator) if masks is None else masks,
    )


def in_plain_engine(optimiser: str = "sgd", rate: float = 0.05, precision: torch.dtype = torch.float32) -> MakeEngine:
    return lambda network: PlainEngine(network, make_optimiser(network, optimiser, rate, 0.0), precision=precision)


def make_method(
    name: str,
    *,
    warmup: int = 0,
    epoch: float = 4.0,
    seed: int = 0,
    parts: int = 1,
    freeze_batchnorm: bool = False,
    engine: MakeEngine | None = None,
    attribution: str = "grad_cam",
    groups: tuple[int, ...] = (),
    **options: Any,
) -> Method[Any]:
    """A method whose networks have the same initial weights every time; a masker is a small one."""
    kind, model = find_method(name), find_options(name)
    small = {"masker": MASKER} if "masker" in model.model_fields else {}
    settings, clock = model.model_validate({**small, **options}), Clock(1000, warmup, epoch)
    torch.manual_seed(0)
    network = build_backbone("resnet8", CLASSES, False, False)
    built: dict[str, nn.Module] = {
        "classifier": Classifier(network, freeze_batchnorm, Places(0, 8), INPUT_ATTRIBUTIONS.get(attribution))
    }
    built |= {own: network.build() for own, network in kind.own_networks(settings, clock).items()}
    engines = {own: (engine or in_plain_engine())(network.train()) for own, network in built.items()}
    return kind(engines, settings, Context(clock, seed, parts, domain_counts=(30, 30), group_counts=groups))


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of weights and buffers, BatchNorm's statistics among them."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def states_of(method: Method[Any]) -> dict[str, dict[str, Tensor]]:
    """The same of each network."""
    return {name: state_of(engine.module) for name, engine in method.networks.items()}


def changed(module: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Names of the weights and buffers that are no longer, bit for bit, what they were."""
    return [name for name, value in module.state_dict().items() if not torch.equal(value, state[name])]


def moved(method: Method[Any], states: dict[str, dict[str, Tensor]]) -> set[str]:
    """The networks that are no longer what they were."""
    return {name for name, engine in method.networks.items() if changed(engine.module, states[name])}
