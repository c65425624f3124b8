from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from align_dist.parallel.engine import Update
from align_dist.parallel.plain import PlainEngine, make_optimiser

torch.set_num_threads(1)
OPTIMISERS = ["adam", "adamw", "sgd"]


def make_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    # No bias before BatchNorm: its gradient is rounding, which Adam scales up.
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def make_engine(
    optimiser: str = "adam",
    seed: int = 0,
    clip: float | None = None,
    rate: float = 0.01,
    layout: torch.memory_format = torch.contiguous_format,
) -> PlainEngine:
    network = make_network(seed).to(memory_format=layout)  # type: ignore[call-overload]
    return PlainEngine(network, make_optimiser(network, optimiser, rate, weight_decay=0.1), gradient_clip=clip)


def loss_of(engine: Any, seed: int, scale: float = 1.0) -> Tensor:
    """A random batch's cross-entropy through any callable network."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.randn(5, 3, 6, 6, generator=generator), torch.randint(2, (5,), generator=generator)
    return scale * nn.functional.cross_entropy(engine(images), labels)


def update(engine: PlainEngine, seed: int, scale: float = 1.0) -> Update:
    return engine.update(lambda part: {"classification": loss_of(engine, part, scale)}, [seed])


def train(engine: PlainEngine, seeds: range) -> None:
    for seed in seeds:
        update(engine, seed)


def parameters_of(engine: PlainEngine) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in engine.module.parameters()]


def state_of(engine: PlainEngine) -> list[Tensor]:
    """Weights and running statistics."""
    return [value.clone() for value in engine.weights().values()]


def assert_bits_equal(first: list[Tensor], second: list[Tensor]) -> None:
    assert len(first) == len(second) > 0
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_changes_nothing_now_or_later(optimiser: str, before: int, bad: float) -> None:
    engine = make_engine(optimiser)
    train(engine, range(before))
    state = state_of(engine)
    assert float(engine.healthy) == 1
    update(engine, 10, bad)
    assert float(engine.healthy) == 0
    assert_bits_equal(state_of(engine), state)
    train(engine, range(11, 14))
    assert float(engine.healthy) == 0
    assert_bits_equal(state_of(engine), state)


def test_a_picture_that_is_no_number_leaves_the_running_statistics_as_they_were() -> None:
    engine = make_engine()
    train(engine, range(2))
    state = state_of(engine)
    images = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, 0] = float("nan")
    engine.update(lambda part: {"size": engine(part).square().mean()}, [images])
    assert_bits_equal(state_of(engine), state)
    assert all(torch.isfinite(value).all() for value in state)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_no_number_counts_though_its_loss_is_one(optimiser: str, clip: float | None) -> None:
    """The slope of a square root at zero is infinite, and its value finite."""
    engine = make_engine(optimiser, clip=clip)
    parameters = parameters_of(engine)
    weight = next(engine.module.parameters())
    terms, norm = engine.update(lambda part: {"root": (weight - part).abs().sum().sqrt()}, [weight.detach().clone()])
    assert torch.isfinite(terms["root"])
    assert not torch.isfinite(norm) and float(engine.healthy) == 0
    assert_bits_equal(parameters_of(engine), parameters)


def test_one_engines_illness_is_not_anothers() -> None:
    ill, well = make_engine(), make_engine()
    update(ill, 0, float("nan"))
    parameters = parameters_of(well)
    update(well, 0)
    assert float(well.healthy) == 1
    assert any(not torch.equal(a, b) for a, b in zip(parameters_of(well), parameters, strict=True))


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
        norm = update(engine, seed).gradient_norm
        plain.zero_grad()
        loss_of(network, seed).backward()
        expected = nn.utils.clip_grad_norm_(network.parameters(), float("inf") if clip is None else clip)
        plain.step()
        torch.testing.assert_close(norm, expected, rtol=1e-4, atol=1e-6)
    for actual, wanted in zip(engine.module.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)


def test_clipping_bounds_the_step_and_not_the_reported_norm() -> None:
    engine = make_engine("sgd", clip=0.01, rate=1.0)
    for group in engine.optimiser.param_groups:
        group["weight_decay"] = 0.0
    parameters = parameters_of(engine)
    norm = update(engine, 0, 100.0).gradient_norm
    step = torch.cat([(a - b).flatten() for a, b in zip(parameters_of(engine), parameters, strict=True)])
    assert float(norm) > 1
    assert float(step.norm()) == pytest.approx(0.01, rel=1e-3)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    result: dict[str, Any] = torch.load(file, weights_only=True)
    return result


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_saved_engine_goes_on_bit_by_bit(optimiser: str) -> None:
    """Through a file and torch's restricted unpickler, into an engine that started elsewhere."""
    first, second = make_engine(optimiser, seed=0), make_engine(optimiser, seed=1)
    train(first, range(3))
    second.load_state_dict(through_a_file(first.state_dict()))
    for engine in (first, second):
        train(engine, range(3, 6))
    assert_bits_equal(parameters_of(first), parameters_of(second))
    assert_bits_equal(list(first.module.buffers()), list(second.module.buffers()))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize(
    ("saved", "loaded"),
    [(torch.channels_last, torch.contiguous_format), (torch.contiguous_format, torch.channels_last)],
    ids=str,
)
def test_a_saved_engine_goes_on_in_another_memory_layout(
    optimiser: str, saved: torch.memory_format, loaded: torch.memory_format
) -> None:
    first, second = make_engine(optimiser, seed=0, layout=saved), make_engine(optimiser, seed=1, layout=loaded)
    train(first, range(3))
    second.load_state_dict(through_a_file(first.state_dict()))
    for engine in (first, second):
        train(engine, range(3, 6))
    for actual, wanted in zip(state_of(second), state_of(first), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_the_next_update_has_the_rate_that_was_set(optimiser: str) -> None:
    engine, other = make_engine(optimiser, rate=0.01), make_engine(optimiser, rate=0.5)
    parameters = parameters_of(engine)
    engine.set_learning_rate(0.0)
    update(engine, 0)
    assert_bits_equal(parameters_of(engine), parameters)
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
    norm = update(engine, 0).gradient_norm
    assert torch.isfinite(norm) and float(engine.healthy) == 1
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def make_small_engine(optimiser: str = "sgd", clip: float | None = None) -> PlainEngine:
    """Without BatchNorm, so that a picture's gradient does not depend on the part that it is in."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 2))
    return PlainEngine(network, make_optimiser(network, optimiser, 0.05, 0.1), gradient_clip=clip)


def terms_of(engine: PlainEngine, rows: Tensor) -> dict[str, Tensor]:
    """Two weighted terms of the rows of a batch; a row's last entry is its label."""
    logits = engine(rows[:, :-1])
    classification = nn.functional.cross_entropy(logits, rows[:, -1].long())
    return {"classification": classification, "size": 0.1 * logits.square().mean()}


def make_rows(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (8, 1), generator=generator)
    return torch.cat([torch.randn(8, 12, generator=generator), labels], dim=1)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("clip", [None, 0.05])
def test_an_update_over_four_parts_is_the_one_over_the_whole(optimiser: str, clip: float | None) -> None:
    whole, parted = make_small_engine(optimiser, clip), make_small_engine(optimiser, clip)
    parameters = parameters_of(whole)
    for seed in range(3):
        rows = make_rows(seed)
        wanted = whole.update(lambda part: terms_of(whole, part), [rows])
        actual = parted.update(lambda part: terms_of(parted, part), list(rows.chunk(4)))
        torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=1e-6)
    for a, b, before in zip(parameters_of(parted), parameters_of(whole), parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
        assert (b - before).abs().max() > 1e-4


def test_terms_are_means_over_the_parts_by_name_and_detached() -> None:
    engine = make_small_engine()
    parts = list(make_rows(0).chunk(4))
    each = [terms_of(engine, part) for part in parts]
    wanted = {name: sum(terms[name].item() for terms in each) / 4 for name in each[0]}
    means = engine.update(lambda part: terms_of(engine, part), parts).terms
    assert {name: float(term) for name, term in means.items()} == pytest.approx(wanted)
    assert all(term.dim() == 0 and not term.requires_grad for term in means.values())


@pytest.mark.parametrize("bad", range(4))
@pytest.mark.parametrize("term", ["classification", "size"])
def test_one_part_that_is_no_number_spoils_the_whole_update(bad: int, term: str) -> None:
    engine = make_small_engine("adamw")
    parameters = parameters_of(engine)
    rows = make_rows(0)

    def terms(part: tuple[int, Tensor]) -> dict[str, Tensor]:
        index, images = part
        losses = terms_of(engine, images)
        return {**losses, term: losses[term] * float("nan")} if index == bad else losses

    update = engine.update(terms, list(enumerate(rows.chunk(4))))
    assert float(engine.healthy) == 0 and not torch.isfinite(update.gradient_norm)
    assert {name for name, value in update.terms.items() if torch.isnan(value)} == {term}
    assert_bits_equal(parameters_of(engine), parameters)
