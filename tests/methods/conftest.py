"""Random batches and tiny networks in real engines, for every method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from align_dist.config import ObjectiveConfig
from align_dist.data.loader import Batch
from align_dist.methods.base import Context
from align_dist.networks.backbones import build_backbone
from align_dist.networks.classifier import Classifier
from align_dist.networks.masker import build_masker
from align_dist.parallel.plain import PlainEngine, make_optimiser

torch.set_num_threads(1)
CLASSES, COUNT, SIDE = 3, 6, 32


def _make_batch(seed: int = 0, masks: Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    samples = torch.arange(COUNT) + COUNT * seed
    return Batch(
        images=torch.randn(COUNT, 3, SIDE, SIDE, generator=generator),
        labels=torch.tensor([0, 1, 2, 0, 1, 0]),
        domains=torch.zeros(COUNT, dtype=torch.int64),
        samples=samples,
        draws=samples.numpy().astype(np.uint64) + np.uint64(1 << 32),
        masks=masks,
    )


def _make_networks(optimiser: str = "sgd", rate: float = 0.05, freeze_batchnorm: bool = False) -> dict[str, Any]:
    torch.manual_seed(0)
    classifier = Classifier(build_backbone("resnet8", CLASSES, False, False), freeze_batchnorm).train()
    masker = build_masker("small", 4, 0.4).train()
    built = {"classifier": classifier, "masker": masker}
    return {name: PlainEngine(net, make_optimiser(net, optimiser, rate, 0.0)) for name, net in built.items()}


def _make_context(
    warmup: int = 0,
    masker_start: int | None = None,
    epoch: float = 4.0,
    seed: int = 0,
    sparsity_ramp: int = 0,
    **objective: Any,
) -> Context:
    start = warmup if masker_start is None else masker_start
    return Context(ObjectiveConfig(**objective), warmup, start, epoch, seed, sparsity_ramp)


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of weights and buffers, BatchNorm's statistics among them."""
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    return _make_batch


@pytest.fixture
def make_networks() -> Callable[..., dict[str, Any]]:
    return _make_networks


@pytest.fixture
def make_context() -> Callable[..., Context]:
    return _make_context


@pytest.fixture
def state_of() -> Callable[[nn.Module], dict[str, Tensor]]:
    return _state_of


@pytest.fixture
def changed() -> Callable[[nn.Module, dict[str, Tensor]], list[str]]:
    """Names of the weights and buffers that are no longer, bit for bit, what they were."""

    def names(module: nn.Module, kept: dict[str, Tensor]) -> list[str]:
        return [name for name, value in module.state_dict().items() if not torch.equal(value, kept[name])]

    return names
