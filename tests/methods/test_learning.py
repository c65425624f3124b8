"""Every method learns pictures drawn as the embedded benchmark's are, and its own term does what it is there for: it is
lower than where the same run goes without it. Without the term, or with its sign turned, it is not.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from methods.making import CLASSES, SIDE, in_plain_engine, make_method
from shares import take_step, with_share
from sklearn.datasets import load_digits
from torch import Tensor

from align_dist.data.batch import Batch
from align_dist.data.scenes import compose
from align_dist.methods.base import Method
from align_dist.options.registry import METHODS

COUNT = 24
SEEN, NEW = range(8), range(100, 103)


class Case(NamedTuple):
    """options: the method's. without: what takes its own term away, of the method named or of itself. steps: how long
    it trains. batches: where the term is looked at: on new pictures, or, where the term makes training harder, on
    those seen. least: by which share the term is lower.
    """

    options: dict[str, Any]
    without: dict[str, Any]
    other: str = ""
    steps: int = 40
    batches: range = NEW
    least: float = 0.1


CASES = {
    # After so few steps masks are grey, and most of the cross-entropy is their own entropy.
    "align": Case({"lambda3": 6.0, "lambda4": 0.0, "lambda1": 0.5}, {"lambda3": 0.0}, steps=60, least=0.05),
    "fixed_mask": Case({"mask": "given", "lambda3": 2.0, "lambda4": 0.0}, {"lambda3": 0.0}),
    "haics": Case({"weight": 2.0}, {"weight": 0.0}),
    "gradia": Case({"weight": 2.0}, {"weight": 0.0}),
    "care": Case({"weight": 0.5}, {"weight": 0.0}),
    "res": Case({}, {"weight": 0.0}),
    "dre": Case({}, {"lambda4": 0.0}),
    "sgt": Case({}, {"weight": 0.0}),
    "cgc": Case({"contrast": 2.0}, {"contrast": 0.0}),
    "mixup": Case({"alpha": 1.0}, {}, other="erm", batches=SEEN),
    "irm": Case({"penalty": 10.0, "penalty_anneal": "5 steps"}, {"penalty": 0.0}, steps=80, batches=SEEN),
    "groupdro": Case({"eta": 0.1, "over": "groups"}, {}, other="erm", batches=SEEN),
    "rsc": Case({}, {}, other="erm", steps=80, batches=SEEN),
}


def draw(seed: int, agreement: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures of the digits 0 to 2, their masks, labels, and backgrounds' colours, which fit the class that often."""
    random, digits = np.random.default_rng(seed), load_digits()
    images, masks, labels, colours = [], [], [], []
    for index in range(COUNT):
        label = index % CLASSES
        colour = label if random.random() < agreement else int(random.integers(CLASSES))
        background = random.uniform(0, 160, (SIDE, SIDE, 3))
        background[..., colour] += 60
        digit = random.choice(digits.images[digits.target == label]) / 16
        image, mask = compose(random, background, digit)
        images.append(torch.from_numpy(image).permute(2, 0, 1) / 64 - 2)
        masks.append(torch.from_numpy(mask) / 255)
        labels.append(label)
        colours.append(colour)
    return torch.stack(images), torch.stack(masks), torch.tensor(labels), torch.tensor(colours)


@cache
def batch_of(seed: int, agreement: float = 0.8) -> Batch:
    images, masks, labels, colours = draw(seed, agreement)
    samples = torch.arange(COUNT) + COUNT * seed
    return Batch(
        images=images.float(),
        labels=labels,
        domains=torch.arange(COUNT) // (COUNT // 2),
        samples=samples,
        sample_keys=samples.numpy().astype(np.uint64) + np.uint64(1 << 32),
        masks=masks.float(),
        groups=(labels != colours).long(),
    )


def trained(name: str, options: dict[str, Any], steps: int) -> Method[Any]:
    method = make_method(name, engine=in_plain_engine("adamw", 3e-3), groups=(80, 16), epoch=4.0, **options)
    for step in range(steps):
        take_step(method, batch_of(step % len(SEEN)), step)
    return method


def own_terms(method: Method[Any], classifier: dict[str, Tensor], case: Case) -> float:
    """The mean over batches of a method's own terms, their weights left out, of these weights of the classifier."""
    method.classifier.module.load_state_dict(classifier)
    network, total = method.classifier.module.eval(), 0.0
    for seed in case.batches:
        batch = with_share(batch_of(seed), method, case.steps)
        with torch.no_grad():
            batch = method.prepare(batch, case.steps)
            losses = method.losses(case.steps)["classifier"](network, batch, case.steps)
        total += sum(float(value) for term, (weight, value) in losses.items() if weight and term != "classification")
    return total / len(case.batches)


def accuracy(method: Method[Any]) -> float:
    batch = batch_of(100)
    with torch.no_grad():
        logits = method.classifier.module.eval()(batch.images)
    return float((logits.argmax(1) == batch.labels).float().mean())


def test_every_method_has_its_case() -> None:
    assert {*CASES, "erm"} == {name for name in METHODS if not name.startswith("made_up")}


@pytest.mark.parametrize("name", CASES)
def test_a_method_learns_and_its_own_term_does_its_work(name: str) -> None:
    case = CASES[name]
    method = trained(name, case.options, case.steps)
    other = trained(case.other or name, case.without if case.other else {**case.options, **case.without}, case.steps)
    assert accuracy(method) > 0.6
    weights = {key: value.clone() for key, value in method.classifier.module.state_dict().items()}
    without = own_terms(method, other.classifier.module.state_dict(), case)
    assert own_terms(method, weights, case) < without - case.least * abs(without)
