from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from align_dist.parallel.plain import PlainEngine, make_optimiser

torch.set_num_threads(1)
OPTIMISERS = ["adam", "adamw", "sgd"]


def make_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    # No bias before BatchNorm: its gradient is rounding, which Adam scales up.
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def make_engine(optimiser: str = "adam", seed: int = 0, clip: float | None = None, rate: float = 0.01) -> PlainEngine:
    network = make_network(seed)
    return PlainEngine(network, make_optimiser(network, optimiser, rate, weight_decay=0.1), gradient_clip=clip)


def loss_of(engine: Any, seed: int, scale: float = 1.0) -> Tensor:
    """A random batch's cross-entropy through any callable network."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.randn(5, 3, 6, 6, generator=generator), torch.randint(2, (5,), generator=generator)
    return scale * nn.functional.cross_entropy(engine(images), labels)


def train(engine: PlainEngine, seeds: range) -> None:
    for seed in seeds:
        engine.update(loss_of(engine, seed))


def parameters_of(engine: PlainEngine) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in engine.module.parameters()]


def assert_bits_equal(first: list[Tensor], second: list[Tensor]) -> None:
    assert len(first) == len(second) > 0
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_changes_nothing_now_or_later(optimiser: str, before: int, bad: float) -> None:
    engine = make_engine(optimiser)
    train(engine, range(before))
    kept = parameters_of(engine)
    assert float(engine.healthy) == 1
    engine.update(loss_of(engine, 10, bad))
    assert float(engine.healthy) == 0
    assert_bits_equal(parameters_of(engine), kept)
    train(engine, range(11, 14))
    assert float(engine.healthy) == 0
    assert_bits_equal(parameters_of(engine), kept)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_no_number_counts_though_its_loss_is_one(optimiser: str, clip: float | None) -> None:
    """The slope of a square root at zero is infinite, and its value finite."""
    engine = make_engine(optimiser, clip=clip)
    kept = parameters_of(engine)
    weight = next(engine.module.parameters())
    loss = (weight - weight.detach()).abs().sum().sqrt()
    assert torch.isfinite(loss)
    norm = engine.update(loss)
    assert not torch.isfinite(norm) and float(engine.healthy) == 0
    assert_bits_equal(parameters_of(engine), kept)


def test_one_engines_illness_is_not_anothers() -> None:
    ill, well = make_engine(), make_engine()
    ill.update(loss_of(ill, 0, float("nan")))
    kept = parameters_of(well)
    well.update(loss_of(well, 0))
    assert float(well.healthy) == 1
    assert any(not torch.equal(a, b) for a, b in zip(parameters_of(well), kept, strict=True))


def plain_optimiser(network: nn.Module, name: str) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "foreach": False, "fused": False}
    if name == "sgd":
        return torch.optim.SGD(network.parameters(), momentum=0.9, **settings)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](network.parameters(), **settings)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("clip", [None, 0.05, 1e6])
def test_updates_and_norms_are_those_of_torch(optimiser: str, clip: float | None) -> None:
    engine, network = make_engine(optimiser, clip=clip), make_network()
    plain = plain_optimiser(network, optimiser)
    for seed in range(4):
        norm = engine.update(loss_of(engine, seed))
        plain.zero_grad()
        loss_of(network, seed).backward()
        expected = nn.utils.clip_grad_norm_(network.parameters(), float("inf") if clip is None else clip)
        plain.step()
        torch.testing.assert_close(norm, expected, rtol=1e-4, atol=1e-6)
    for found, wanted in zip(engine.module.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_clipping_bounds_the_step_and_not_the_reported_norm() -> None:
    engine = make_engine("sgd", clip=0.01, rate=1.0)
    for group in engine.optimiser.param_groups:
        group["weight_decay"] = 0.0
    kept = parameters_of(engine)
    norm = engine.update(loss_of(engine, 0, 100.0))
    step = torch.cat([(a - b).flatten() for a, b in zip(parameters_of(engine), kept, strict=True)])
    assert float(norm) > 1
    assert float(step.norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_saved_engine_goes_on_bit_by_bit(optimiser: str) -> None:
    """Through a file and torch's restricted unpickler, into an engine that started elsewhere."""
    first, second = make_engine(optimiser, seed=0), make_engine(optimiser, seed=1)
    train(first, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for engine in (first, second):
        train(engine, range(3, 6))
    assert_bits_equal(parameters_of(first), parameters_of(second))
    assert_bits_equal(list(first.module.buffers()), list(second.module.buffers()))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_the_next_update_has_the_rate_that_was_set(optimiser: str) -> None:
    engine, other = make_engine(optimiser, rate=0.01), make_engine(optimiser, rate=0.5)
    kept = parameters_of(engine)
    engine.set_learning_rate(0.0)
    engine.update(loss_of(engine, 0))
    assert_bits_equal(parameters_of(engine), kept)
    engine = make_engine(optimiser, rate=0.01)
    engine.set_learning_rate(0.5)
    train(engine, range(2))
    train(other, range(2))
    assert_bits_equal(parameters_of(engine), parameters_of(other))


def test_bfloat16_is_for_the_forward_and_weights_stay_float32() -> None:
    network = make_network()
    engine = PlainEngine(network, make_optimiser(network, "adam", 0.01, 0.0), precision=torch.bfloat16)
    images = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert engine(images).dtype == torch.bfloat16
    assert network(images).dtype == torch.float32
    norm = engine.update(loss_of(engine, 0).float())
    assert torch.isfinite(norm) and float(engine.healthy) == 1
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
