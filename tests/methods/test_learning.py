"""Every method learns pictures drawn as the embedded benchmark's are, and does what it is there for: its aim, measured
by `aims` and by none of its own code, is nearer than where the same run goes without the method's own term.

Where accuracy is measured, backgrounds tell nothing. Where aims are, their colour fits the class in 80 % besides, so
that there is something to keep away from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from methods import aims
from methods.making import CLASSES, SIDE, in_plain_engine, make_method
from shares import take_step
from sklearn.datasets import load_digits
from torch import Tensor, nn

from align_dist.data.batch import Batch
from align_dist.data.scenes import compose
from align_dist.methods.base import Method
from align_dist.options.registry import METHODS

COUNT = 24
# Batches where aims are measured; no run is long enough to see them.
NEW = range(200, 204)
RATE = 6e-3
# How often the background's colour fits the class, in one domain and the other.
Agreements = tuple[float, float]
USUAL = (0.8, 0.8)


class Case(NamedTuple):
    """options: the method's. aim: a measure of `aims`, the lower the better. without: what takes the method's own term
    away; nothing for ERM, which is the method without the term.
    """

    options: dict[str, Any]
    aim: Callable[[nn.Module, Batch], float]
    without: Mapping[str, Any] = MappingProxyType({})
    agreements: Agreements = USUAL


def off_the_object(network: nn.Module, batch: Batch) -> float:
    """Attribution outside the true masks."""
    assert batch.masks is not None
    return aims.attribution_outside(network, batch, batch.masks)


# What the aim is without the term, it is to be by less than this share with the term.
SHARE = 0.75
CASES = {
    "fixed_mask": Case({"mask": "given", "lambda3": 2.0, "lambda4": 0.0}, off_the_object),
    "haics": Case({"weight": 2.0}, off_the_object),
    "gradia": Case({"weight": 2.0}, off_the_object),
    "care": Case({"weight": 0.5}, off_the_object),
    "res": Case({}, off_the_object),
    # A slack that no disagreement exceeds leaves the second term alone.
    "res imputation": Case({"slack": 2.0}, off_the_object),
    "dre": Case({"lambda4": 10.0}, aims.inconsistency_under_mixtures),
    "dre sparsity": Case({}, aims.size_of_maps),
    "sgt": Case({}, aims.change_without_weak_pixels),
    "cgc": Case({"contrast": 2.0}, aims.inconsistency_under_shifts, {"contrast": 0.0}),
    "mixup": Case({"alpha": 1.0}, aims.divergence_on_mixtures),
    # One scale does not suit both domains.
    "irm": Case({"penalty": 3.0, "penalty_anneal": "5 steps"}, aims.slope_of_scale, agreements=(1.0, 0.0)),
    # Not compared with ERM: domains that count equally, with q left as it is, are another start than ERM's.
    "groupdro": Case({"eta": 0.3, "over": "domains"}, aims.worst_domain_loss, {"eta": 1e-9}, agreements=(1.0, 0.0)),
    "rsc": Case({}, aims.loss_without_strong_features),
}
# What a method needs to learn the digits in so few steps.
LEARNING: dict[str, dict[str, Any]] = {
    "fixed_mask": {"mask": "given"},
    "irm": {"penalty": 3.0, "penalty_anneal": "5 steps"},
}
# Masks are learned before they guide: the first ones are grey.
ALIGN = {"lambda1": 1.0, "lambda2": 0.0, "lambda4": 0.0, "warmup": 50, "masker_head_start": "50 steps"}
# Steps by which a masker beside a plain classifier has found something.
MASKER = {"lambda3": 0.0, "lambda4": 0.0}


@cache
def digits() -> list[Any]:
    """The pictures (N, 8, 8) of each class."""
    known = load_digits()
    return [known.images[known.target == label] for label in range(CLASSES)]


def draw(random: np.random.Generator, label: int, agreement: float) -> tuple[Tensor, Tensor, int]:
    """A picture of the digit, its mask, and its background's colour."""
    colour = label if random.random() < agreement else int(random.integers(CLASSES))
    background = random.uniform(0, 160, (SIDE, SIDE, 3))
    background[..., colour] += 60
    image, mask = compose(random, background, random.choice(digits()[label]) / 16)
    return torch.from_numpy(image).permute(2, 0, 1) / 64 - 2, torch.from_numpy(mask) / 255, colour


@cache
def batch_of(seed: int, agreements: Agreements) -> Batch:
    """New pictures of the digits 0 to 2, half of each domain."""
    random, labels, domains = np.random.default_rng(seed), torch.arange(COUNT) % CLASSES, torch.arange(COUNT) % 2
    drawn = [draw(random, label, agreements[domain]) for label, domain in zip(labels.tolist(), domains, strict=True)]
    images, masks, colours = zip(*drawn, strict=True)
    samples = torch.arange(COUNT) + COUNT * seed
    return Batch(
        images=torch.stack(images).float(),
        labels=labels,
        domains=domains,
        samples=samples,
        sample_keys=samples.numpy().astype(np.uint64) + np.uint64(1 << 32),
        masks=torch.stack(masks).float(),
        groups=(labels != torch.tensor(colours)).long(),
    )


def trained(name: str, options: Mapping[str, Any], steps: int = 50, agreements: Agreements = USUAL) -> Method[Any]:
    method = make_method(name, engine=in_plain_engine("adamw", RATE), groups=(80, 16), epoch=4.0, **options)
    for step in range(steps):
        for network in method.networks.values():
            network.set_learning_rate(RATE * (1 - step / steps))
        take_step(method, batch_of(step, agreements), step)
    return method


@cache
def trained_erm(agreements: Agreements) -> Method[Any]:
    return trained("erm", {}, agreements=agreements)


def mean_over_new(aim: Callable[[Batch], float], agreements: Agreements = USUAL) -> float:
    return float(np.mean([aim(batch_of(seed, agreements)) for seed in NEW]))


def accuracy(method: Method[Any]) -> float:
    """On random backgrounds."""
    network = method.classifier.module.eval()

    def correct(batch: Batch) -> float:
        with torch.no_grad():
            return float((network(batch.images).argmax(1) == batch.labels).float().mean())

    return mean_over_new(correct, (0.0, 0.0))


def test_every_method_has_its_case() -> None:
    assert {"erm", "align", *(case.split()[0] for case in CASES)} == {
        name for name in METHODS if not name.startswith("made_up")
    }


@pytest.mark.parametrize("name", sorted({title.split()[0] for title in CASES} | {"erm", "align"}))
def test_a_method_learns_what_is_on_the_plates(name: str) -> None:
    assert accuracy(trained(name, LEARNING.get(name, {}), 60, (0.0, 0.0))) > 0.6, "a third by chance"


@pytest.mark.parametrize("title", CASES)
def test_a_method_comes_nearer_to_its_aim(title: str) -> None:
    case, (name, *_) = CASES[title], title.split()

    def aim_of(method: Method[Any]) -> float:
        return mean_over_new(partial(case.aim, method.classifier.module.eval()), case.agreements)

    run = trained(name, case.options, agreements=case.agreements)
    without = {**case.options, **case.without}
    other = trained(name, without, agreements=case.agreements) if case.without else trained_erm(case.agreements)
    assert aim_of(run) < aim_of(other) - (1 - SHARE) * abs(aim_of(other))


def test_aligns_classifier_looks_where_its_masks_are() -> None:
    method, other = (trained("align", {**ALIGN, "lambda3": weight}, 80) for weight in (3.0, 0.0))

    def distance(network: nn.Module) -> float:
        return mean_over_new(lambda batch: aims.disagreement(network.eval(), batch, mask_of(method, batch)))

    assert distance(method.classifier.module) < SHARE * distance(other.classifier.module)


def mask_of(method: Method[Any], batch: Batch) -> Tensor:
    mask = method.learned_mask(batch)
    assert mask is not None
    return mask


def test_aligns_masks_hold_the_evidence() -> None:
    method = trained("align", {**MASKER, "lambda1": 0.5}, 80)
    untrained = make_method("align", **MASKER)

    def remaining(masker: Method[Any]) -> float:
        network = method.classifier.module.eval()
        return mean_over_new(lambda batch: aims.uncut_evidence(network, batch, mask_of(masker, batch)))

    assert remaining(method) < -0.1 < 0.1 < remaining(untrained), "more inside than outside, and the other way round"


@pytest.mark.parametrize(("option", "values"), [("lambda1", (0.0, 4.0)), ("lambda2", (0.0, 10.0))])
def test_sparsity_makes_masks_small_and_smoothness_smooth(option: str, values: tuple[float, float]) -> None:
    def size(batch: Batch, method: Method[Any]) -> float:
        mask = mask_of(method, batch)
        return float(mask.mean() if option == "lambda1" else mask.diff(dim=1).abs().mean())

    without, with_term = (trained("align", {**MASKER, option: value}, 40) for value in values)
    sizes = [mean_over_new(lambda batch, of=run: size(batch, of)) for run in (without, with_term)]  # type: ignore[misc]
    assert sizes[1] < 0.85 * sizes[0]
