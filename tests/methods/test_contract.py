"""What holds for every method in the registry, in warm-up, where its own networks begin, and guided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from methods.making import changed, make_batch, make_method, moved, state_of, states_of
from refusals import raises
from shares import look, take_step

from align_dist.errors import ConfigError
from align_dist.methods.base import find_method
from align_dist.options.registry import METHODS, find_options

WARMUP = 2
PRODUCT = [name for name in METHODS if not name.startswith("made_up")]
# Every method as it comes, and what else takes another way through a step.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in PRODUCT},
    "align by epochs": ("align", {"alternation": "epoch", "masker_head_start": "1 steps"}),
    "align jointly": ("align", {"alternation": "joint", "exchange": 1.0}),
    "align sampled": ("align", {"mask_sampling": "relaxed", "masker_head_start": "1 steps", "lambda4": 0.0}),
    "grey": ("fixed_mask", {"mask": "grey", "guidance_resolution": "image", "cam_normalisation": "relu_max"}),
    "align briefly": ("align", {"masker_head_start": "1 steps", "masker_length": "2 steps"}),
    "given": ("fixed_mask", {"mask": "given", "lambda4": 0.0}),
    "gaussian shuffled": ("fixed_mask", {"mask": "gaussian", "shuffled": True}),
    "align exchanged": ("align", {"exchange": 1.0, "removed_pixels": "another_image", "mask_sampling": "relaxed"}),
    "haics grey shuffled": ("haics", {"mask": "grey", "shuffled": True}),
    "res of all pixels": ("res", {"mask": "constant", "slack": 0.0}),
    "dre as coded": ("dre", {"regulariser_sparsity": "column_maximum"}),
    "sgt at random": ("sgt", {"replacement": "random", "fraction": 0.5, "absolute": True}),
}
STEPS = range(WARMUP + 3)
# Six images go into three parts of two, in which images may be paired but not taken by fours.
IN_PARTS = [
    case
    for case, (name, options) in CASES.items()
    if not find_method(name).takes_whole_batches and 2 % find_options(name).model_validate(options).part_divisor == 0
]
every_case = pytest.mark.parametrize("case", CASES)


def made(case: str, **changes: Any) -> Any:
    name, options = CASES[case]
    return make_method(name, **{"warmup": WARMUP, "epoch": 1.0, **options, **changes})


def unregularised(case: str) -> dict[str, Any]:
    return {"lambda4": 0.0} if "lambda4" in find_options(CASES[case][0]).model_fields else {}


@every_case
def test_the_networks_that_it_says_learn_and_no_others(case: str) -> None:
    """Weights and running statistics, to the bit; modes and flags are as before."""
    method = made(case)
    for step in STEPS:
        states, batch = states_of(method), make_batch(step)
        take_step(method, batch, step)
        assert moved(method, states) == set(method.losses(step))
        for engine in method.networks.values():
            assert engine.module.training and all(p.requires_grad for p in engine.module.parameters())


@every_case
def test_a_step_depends_on_nothing_but_weights_batch_and_seed(case: str) -> None:
    def after(noise: int, seed: int = 0, passes: int = 0) -> Any:
        method, batch = made(case, seed=seed, warmup=0), make_batch()
        torch.manual_seed(noise)
        for step in range(2):
            take_step(method, replace(batch, sample_keys=batch.sample_keys + np.uint64(passes << 32)), step)
        return method

    states = states_of(after(noise=1))
    assert moved(after(noise=2), states) == set()
    options = made(case).options.model_dump()
    sample_keys = (
        options.get("lambda4", 0.0) > 0
        or options.get("mask_sampling") == "relaxed"
        or options.get("replacement") == "random"
        or case in ("mixup", "cgc")
    )
    assert bool(moved(after(noise=1, seed=1), states)) == bool(moved(after(noise=1, passes=1), states)) == sample_keys


@every_case
def test_warm_up_is_erm_to_the_bit_and_what_follows_is_not(case: str) -> None:
    """Without the regulariser, which is none of guidance. A method whose own term is gone is ERM to the end, and one
    that has no warm-up to share is itself from the first step on.
    """
    method, erm = made(case, **unregularised(case)), make_method("erm")
    begins = WARMUP if method.options.shared_warmup(method.context.clock) else 0
    is_erm = CASES[case][0] in ("erm", "dre")
    for step in STEPS:
        take_step(method, make_batch(step), step)
        take_step(erm, make_batch(step), step)
        differs = changed(method.classifier.module, state_of(erm.classifier.module))
        assert bool(differs) == (step >= begins and not is_erm)


@every_case
def test_the_regulariser_acts_from_the_first_step(case: str) -> None:
    if not unregularised(case):
        return
    method, erm = made(case, lambda4=0.5), make_method("erm")
    take_step(method, make_batch(), 0)
    take_step(erm, make_batch(), 0)
    assert changed(method.classifier.module, state_of(erm.classifier.module))


@pytest.mark.parametrize("case", IN_PARTS)
@pytest.mark.parametrize("step", [0, WARMUP])
def test_parts_of_a_batch_equal_the_whole(case: str, step: int) -> None:
    """With frozen BatchNorm, which would normalise each part by itself."""
    whole, parts = (made(case, parts=count, freeze_batchnorm=True) for count in (1, 3))
    logged = [take_step(method, make_batch(), step) for method in (whole, parts)]
    assert logged[0].keys() == logged[1].keys()
    for name, value in logged[0].items():
        torch.testing.assert_close(logged[1][name], value, rtol=2e-4, atol=1e-6)
    for name, engine in whole.networks.items():
        for key, weight in engine.module.state_dict().items():
            torch.testing.assert_close(parts.networks[name].module.state_dict()[key], weight, rtol=0, atol=1e-5)


@every_case
@pytest.mark.parametrize("step", [0, WARMUP])
def test_raw_terms_and_weights_are_logged_and_add_up_to_the_loss(case: str, step: int) -> None:
    method = made(case)
    logged = take_step(method, make_batch(), step)
    for network in method.losses(step):
        weights = {name.rpartition("/")[2]: w for name, w in logged.items() if name.startswith(f"{network}/weight/")}
        terms = {name: logged[f"{network}/{name}"] for name in weights}
        total = sum(float(weights[name]) * float(term) for name, term in terms.items())
        assert weights and float(logged[f"{network}/loss"]) == pytest.approx(total, rel=1e-5)
        assert float(logged[f"{network}/gradient_norm"]) > 0
    assert not any(isinstance(value, torch.Tensor) and (value.requires_grad or value.ndim) for value in logged.values())


@every_case
@pytest.mark.parametrize("step", [0, WARMUP])
def test_a_probe_tells_each_networks_terms_and_moves_nothing(case: str, step: int) -> None:
    method = made(case)
    for engine in method.networks.values():
        engine.module.eval()
    states, state = states_of(method), {name: value.clone() for name, value in method.state.items()}
    terms = look(method, make_batch(), step)
    assert list(terms) == list(method.losses(step)) and moved(method, states) == set()
    for name, losses in terms.items():
        weights = list(method.networks[name].module.parameters())
        gradients = torch.autograd.grad(sum(losses.values()), weights, allow_unused=True)  # type: ignore[arg-type]
        assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    assert all(torch.equal(method.state[name], value) for name, value in state.items())


@pytest.mark.parametrize("name", PRODUCT)
def test_what_is_registered_is_found_where_it_says(name: str) -> None:
    assert METHODS[name].options in (None, find_method(name).options_type)
    assert find_options(name) is find_method(name).options_type


def test_an_unknown_method_names_the_nearest() -> None:
    with raises(ConfigError, "'alingn'", "'align'", "erm"):
        find_method("alingn")
