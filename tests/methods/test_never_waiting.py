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
from methods.making import make_batch, make_method
from methods.test_contract import CASES, IN_PARTS
from shares import with_share
from torch import nn

from align_dist.data.batch import Batch
from align_dist.input_attribution import INPUT_ATTRIBUTIONS
from align_dist.methods.base import find_method
from align_dist.parallel.plain import PlainEngine

META = torch.device("meta")


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


@pytest.mark.parametrize(("case", "parts"), [*((case, 1) for case in CASES), *((case, 2) for case in IN_PARTS)])
def test_no_step_of_any_method_waits(case: str, parts: int) -> None:
    """In warm-up, where its own networks begin, and guided."""
    name, options = CASES[case]
    if parts > 1 and find_method(name).takes_whole_batches:
        return
    method = make_method(name, engine=engine, parts=parts, warmup=2, **options)
    for step in range(4):
        terms = method.step(on_meta(with_share(make_batch(step), method, step)), step)
        assert terms and all(isinstance(term, float) or term.device == META for term in terms.values())


@pytest.mark.parametrize("attribution", INPUT_ATTRIBUTIONS)
def test_no_attribution_waits(attribution: str) -> None:
    method = make_method("align", engine=engine, attribution=attribution)
    assert method.step(on_meta(with_share(make_batch(), method, 0)), 0)["classifier/guidance"].device == META


WAITS: dict[str, Callable[[Batch], object]] = {
    "a number is read": lambda batch: batch.images.mean().item(),
    "a decision is made": lambda batch: bool(batch.images.sum() > 0),
    "places are looked for": lambda batch: batch.labels.nonzero(),
    "values are told apart": lambda batch: torch.unique(batch.labels),
    "something is brought to the host": lambda batch: batch.images.cpu(),
    "something is made on the host": lambda batch: batch.images * torch.tensor([0.3, 0.3, 0.4]).view(1, 3, 1, 1),
}


@pytest.mark.parametrize("what", WAITS)
def test_a_step_that_waits_is_caught(what: str) -> None:
    method: Any = make_method("erm", engine=engine)
    loss = method.classification

    def waiting(classifier: Any, batch: Batch, step: int) -> Any:
        WAITS[what](batch)
        return loss(classifier, batch, step)

    method.classification = waiting
    with pytest.raises((RuntimeError, NotImplementedError)):
        method.step(on_meta(with_share(make_batch(), method)), 0)
