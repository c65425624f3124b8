from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from methods.making import make_batch, make_method
from refusals import raises
from shares import look
from torch import Tensor, nn
from torchvision.models import vgg11

from align_dist.errors import ConfigError
from align_dist.methods.base import Context
from align_dist.methods.rsc import RSC, below_top
from align_dist.networks.classifier import Classifier
from align_dist.options.clock import Clock
from align_dist.options.general import RSCOptions
from align_dist.parallel.plain import PlainEngine, make_optimiser


def written_out(network: Any, images: Tensor, labels: Tensor, features: float, image_share: float) -> Tensor:
    """DomainBed's steps with numpy's percentiles, the gradient by autograd."""
    hidden = torch.relu(network.bn1(network.conv1(images)))
    means = network.layer3(network.layer2(network.layer1(hidden))).mean((2, 3)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network.fc(means).gather(1, labels[:, None]).sum(), means)
    limits = np.percentile(gradient.numpy(), (1 - features) * 100, axis=1, keepdims=True)
    stays = gradient < torch.from_numpy(limits)
    of_label = labels[:, None]
    falls = network.fc(means).softmax(1).gather(1, of_label) - network.fc(means * stays).softmax(1).gather(1, of_label)
    spared = falls < float(np.percentile(falls.detach().numpy(), (1 - image_share) * 100))
    assert 0 < spared.sum() < len(images)
    return F.cross_entropy(network.fc(means * (stays | spared)), labels)


@pytest.mark.parametrize(("features", "images"), [(1 / 3, 1 / 3), (0.5, 0.2)])
def test_the_loss_is_that_of_the_authors_steps(features: float, images: float) -> None:
    method, batch = make_method("rsc", features=features, images=images), make_batch()
    network: Any = method.classifier.module
    network.eval()
    expected = written_out(network.network, batch.images, batch.labels, features, images)
    torch.testing.assert_close(look(method, batch, 0)["classifier"]["challenged"], expected)


def test_what_is_muted_by_hand() -> None:
    """Class 0 leans on the first feature, class 1 on the third; only the first image loses by it."""
    method, head = make_method("rsc", features=1 / 3, images=1 / 2), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.5, 0.0], [0.0, 0.5, 2.0]]))
    batch = type(make_batch())(torch.empty(2), torch.tensor([0, 1]), torch.empty(2), torch.empty(2), np.empty(2))
    mask = method.feature_mask(torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.1]]), head, batch)
    assert mask.tolist() == [[False, True, True], [True, True, True]]


def test_drops_are_not_those_of_sixteen_bits() -> None:
    method, head = make_method("rsc"), nn.Linear(16, 3)
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.rand(60, 16, generator=generator).bfloat16(), torch.arange(60) % 3
    batch = type(make_batch())(torch.empty(60), labels, torch.empty(60), torch.empty(60), np.empty(60))
    with torch.autocast("cpu", torch.bfloat16):
        mask = method.feature_mask(features, head, batch)
    assert torch.equal(mask, method.feature_mask(features.float(), head, batch))


@pytest.mark.parametrize("nothing", [{"features": 0.0}, {"images": 0.0}])
def test_at_a_share_of_0_it_is_erm(nothing: dict[str, float]) -> None:
    method, batch = make_method("rsc", freeze_batchnorm=True, **nothing), make_batch()
    expected = F.cross_entropy(method.classifier.module(batch.images), batch.labels)
    torch.testing.assert_close(look(method, batch, 0)["classifier"]["challenged"], expected)


def test_those_below_the_top_are_all_where_nothing_is_the_top() -> None:
    values = torch.tensor([[1.0, 4.0, 2.0, 3.0]])
    assert below_top(values, 0.25).tolist() == [[True, False, True, True]]
    assert below_top(values, 0.0).all()
    assert below_top(values, 0.5, torch.tensor([2.4, 2.6])).tolist() == [True, False]


def test_a_network_without_one_linear_head_is_refused() -> None:
    network = Classifier(vgg11(weights=None, num_classes=3))
    engine = PlainEngine(network, make_optimiser(network, "sgd", 0.1, 0.0))
    with raises(ConfigError, "classifier.backbone: ", "rsc"):
        RSC({"classifier": engine}, RSCOptions(), Context(Clock(10, 0, 4.0), 0))
