"""What the verbs print, of a tiny run; how fast it was is no business of a test."""

from __future__ import annotations

import re

import pytest
import torch
from refusals import raises

from align_dist.bench import step, train
from align_dist.bench.plain_pytorch import PlainAlign
from align_dist.config import RunConfig
from align_dist.errors import ConfigError
from align_dist.networks.backbones import build_backbone
from align_dist.networks.masker import build_masker
from align_dist.options import AlignOptions

SPEED = re.compile(r"^  (.+?) +([\d,.]+) images/s +([\d.]+) x ")


def speeds(printed: str) -> dict[str, float]:
    """Images a second by contestant."""
    matches = [SPEED.match(line) for line in printed.splitlines()]
    return {match[1]: float(match[2].replace(",", "")) for match in matches if match}


def test_step_shows_both_precisions_and_what_each_step_asks_for(
    squares: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    step.bench(squares)
    printed = capsys.readouterr().out
    names = {f"{name}, {p}" for name in ("ERM step", "align step, guided") for p in ("float32", "bfloat16")}
    rates = speeds(printed)
    assert names <= rates.keys() and all(speed > 0 for speed in rates.values())
    for name in names:
        (line,) = [line for line in printed.splitlines() if line.strip().startswith(name) and "operations" in line]
        assert int(re.findall(r"(\d+) operations", line)[0]) > 100


def test_train_compares_both_on_the_same_pictures(squares: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    few = squares.model_copy(update={"data": squares.data.model_copy(update={"batch_size": 4})})
    train.bench(few, rounds=1)
    rates = speeds(capsys.readouterr().out)
    assert list(rates) == ["plain PyTorch", "align_dist"] and min(rates.values()) > 0


def test_train_needs_pictures_for_a_turn(squares: RunConfig) -> None:
    with raises(ConfigError, "data.batch_size"):
        train.bench(squares, rounds=1)


def test_the_plain_reference_does_align() -> None:
    """Both networks learn, each from its own losses: the masker's step moves no weight of the classifier."""
    torch.manual_seed(0)
    classifier, masker = build_backbone("resnet8", 3, False, False), build_masker("small", 4, 0.5)
    options = AlignOptions(lambda1=1.0, lambda3=1.0, lambda4=0.0)
    images, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2])

    def moved(rates: tuple[float, float]) -> list[bool]:
        weights = [[p.clone() for p in network.parameters()] for network in (classifier, masker)]
        PlainAlign(classifier, masker, options, rates).step(images, labels)
        pairs = zip(weights, (classifier, masker), strict=True)
        return [any(not torch.equal(a, b) for a, b in zip(old, net.parameters(), strict=True)) for old, net in pairs]

    assert moved((1e-3, 1e-3)) == [True, True]
    assert moved((0.0, 1e-3)) == [False, True]
    assert moved((1e-3, 0.0)) == [True, False]
    assert all(parameter.requires_grad for parameter in classifier.parameters()) and classifier.training
