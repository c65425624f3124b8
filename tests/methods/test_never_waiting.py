"""No step waits for the host: on torch's meta device, whose tensors hold nothing, whatever would wait raises.

A number read by the host, a shape that depends on values and a tensor of another device all do. The optimiser is not
the product's, whose fused kernel takes no meta tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from shares import with_share
from torch import nn

from align_dist.config import ObjectiveConfig
from align_dist.data.loader import Batch
from align_dist.methods.base import Context, Method
from align_dist.methods.registry import METHODS, find_method
from align_dist.networks.backbones import build_backbone
from align_dist.networks.classifier import Classifier
from align_dist.networks.masker import build_masker
from align_dist.parallel.plain import PlainEngine

META = torch.device("meta")
VARIANTS: list[dict[str, Any]] = [
    {},
    {"lambda4": 0.0},
    {"mask_sampling": "relaxed"},
    {"guidance_resolution": "image", "cam_normalisation": "relu_max"},
    {"fixed_mask": "grey"},
    {"fixed_mask": "given"},
]


class Descent(torch.optim.Optimizer):
    """Gradient descent that leaves out a step on the device where `found_inf` is 1, as fused optimisers do."""

    def __init__(self, parameters: Iterator[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter.sub_(0.1 * (1 - self.found_inf) * parameter.grad)  # type: ignore[attr-defined]


def engine(module: nn.Module) -> PlainEngine:
    on_meta = module.to(META)
    return PlainEngine(on_meta, Descent(on_meta.parameters()), gradient_clip=1.0)


def on_meta(batch: Batch) -> Batch:
    tensors = {name: value.to(META) for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return replace(batch, **tensors, values={name: value.to(META) for name, value in batch.values.items()})


def method_on_meta(kind: type[Method], parts: int, **objective: Any) -> Method:
    networks: dict[str, nn.Module] = {"classifier": Classifier(build_backbone("resnet8", 3, False, False))}
    if kind.uses_masker:
        networks["masker"] = build_masker("small", 4, 0.4)
    engines: dict[str, Any] = {name: engine(network) for name, network in networks.items()}
    return kind(engines, Context(ObjectiveConfig(**objective), 2, 1, 4.0, 0, micro_batches=parts))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())) or "default")
@pytest.mark.parametrize("name", METHODS)
def test_no_step_of_any_method_waits(
    name: str, variant: dict[str, Any], parts: int, make_batch: Callable[..., Batch]
) -> None:
    """In warm-up, where the masker begins, and guided."""
    method = method_on_meta(find_method(name), parts, **variant)
    for step in range(4):
        batch = with_share(make_batch(step, masks=torch.rand(6, 32, 32)), method, step)
        terms = method.step(on_meta(batch), step)
        assert terms and all(term.device == META for term in terms.values())


WAITS: dict[str, Callable[[Batch], object]] = {
    "a number is read": lambda batch: batch.images.mean().item(),
    "a decision is made": lambda batch: bool(batch.images.sum() > 0),
    "places are looked for": lambda batch: batch.labels.nonzero(),
    "values are told apart": lambda batch: torch.unique(batch.labels),
    "something is brought to the host": lambda batch: batch.images.cpu(),
    "something is made on the host": lambda batch: batch.images * torch.tensor([0.3, 0.3, 0.4]).view(1, 3, 1, 1),
}


@pytest.mark.parametrize("what", WAITS)
def test_a_step_that_waits_is_caught(what: str, make_batch: Callable[..., Batch]) -> None:
    class Waiting(find_method("erm")):  # type: ignore[misc]
        def step(self, batch: Batch, step: int) -> Any:
            WAITS[what](batch)
            return super().step(batch, step)

    method = method_on_meta(Waiting, 1)
    with pytest.raises((RuntimeError, NotImplementedError)):
        method.step(on_meta(with_share(make_batch(), method)), 0)
