"""Attributions to pixels, through the classifier whose Grad-CAM they replace."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from captum.attr import IntegratedGradients, Saliency
from torch import Tensor, nn

from align_dist.input_attribution import INPUT_ATTRIBUTIONS, STEPS, input_gradient, integrated_gradients
from align_dist.networks.backbones import build_backbone
from align_dist.networks.classifier import Classifier
from align_dist.places import Places

torch.set_num_threads(1)
CLASSES, COUNT, SIDE, CELL = 4, 5, 48, 8
every_attribution = pytest.mark.parametrize("name", INPUT_ATTRIBUTIONS)


def make(name: str, backbone: str = "resnet8", freeze_batchnorm: bool = False) -> Classifier:
    """With places, which are Grad-CAM's alone, and statistics that are not those of the start."""
    torch.manual_seed(0)
    network = build_backbone(backbone, CLASSES, pretrained=False, small_images=False)
    classifier = Classifier(network, freeze_batchnorm, Places(0, CELL), INPUT_ATTRIBUTIONS[name])
    classifier.network.train()(some_images(9))
    return classifier.train()


def some_images(seed: int = 0, count: int = COUNT, side: int = SIDE) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) + 0.5


def some_labels(count: int = COUNT) -> Tensor:
    return torch.arange(count) % CLASSES


def over_cells(pixels: Tensor, cell: int = CELL) -> Tensor:
    """Maps (B, H, W) as means of squares of `cell` pixels a side, by indices alone."""
    count, height, width = pixels.shape
    return pixels.reshape(count, height // cell, cell, width // cell, cell).mean((2, 4))


def captums(name: str, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The map (B, H, W) by the reference library."""
    if name == "input_gradient":
        return Saliency(network).attribute(images, labels, abs=True).mean(1)
    path = IntegratedGradients(network)
    return path.attribute(images, target=labels, method="riemann_middle", n_steps=STEPS).sum(1)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float(((actual - expected).abs().max() / expected.abs().max()).detach())


@every_attribution
@pytest.mark.parametrize(("backbone", "side", "cell"), [("resnet8", 48, 8), ("mobilenet_v3_small", 64, 32)])
def test_maps_are_captums_over_grad_cams_cells(name: str, backbone: str, side: int, cell: int) -> None:
    classifier, images, labels = make(name, backbone).eval(), some_images(side=side), some_labels()
    logits, maps = classifier(images, explain=labels)
    expected = over_cells(captums(name, classifier.network, images, labels), cell)
    classifier.attribution = None
    assert maps.shape == classifier(images, explain=labels).cam.shape == expected.shape
    assert relative_error(maps, expected) < 1e-4
    torch.testing.assert_close(logits, classifier(images))


def linear_classifier(name: str) -> Classifier:
    """f_0 = the mean over 2 by 2 cells of the first colour's top left pixel less three times the second's bottom right,
    plus 5; f_1 = 0.
    """
    network = nn.Sequential(nn.Conv2d(3, 1, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[0, 0, 0, 0], network[0].weight[0, 1, 1, 1] = 1.0, -3.0
        network[3].weight[0], network[3].bias[0] = 1.0, 5.0
    return Classifier(network, attribution=INPUT_ATTRIBUTIONS[name])


def test_the_input_gradient_of_a_linear_network_by_hand() -> None:
    """Each of four cells has gradients 1/4 and −3/4 at two of its four pixels: a mean over 3 colours and 4 pixels."""
    classifier = linear_classifier("input_gradient")
    maps = classifier(some_images(count=2, side=4), explain=torch.tensor([0, 1])).cam
    assert maps[0].flatten().tolist() == pytest.approx([1 / 12] * 4)
    assert (maps[1] == 0).all()


def test_integrated_gradients_of_a_linear_network_by_hand_and_complete() -> None:
    """A cell's four pixels share (x − 3 x') / 4; all pixels together have f(x) − f(0), and f(0) = 5."""
    classifier, images = linear_classifier("integrated_gradients"), some_images(count=2, side=4)
    logits, maps = classifier(images, explain=torch.tensor([0, 0]))
    expected = (images[:, 0, ::2, ::2] - 3 * images[:, 1, 1::2, 1::2]) / 16
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(4 * maps.sum((1, 2)), logits[:, 0] - 5)


def test_integrated_gradients_take_the_middle_of_each_step() -> None:
    """Of x³ the exact integral is x³; middle points of n steps leave out x³ / (4 n²), ends would miss by x³ / n."""

    def cubes(images: Tensor) -> Tensor:
        return images.pow(3).sum((1, 2, 3))[:, None]

    images = some_images().double()
    maps = integrated_gradients(cubes, images, torch.zeros(COUNT, dtype=torch.int64), False)
    torch.testing.assert_close(maps, images.pow(3).sum(1) * (1 - 1 / (4 * STEPS**2)))


def smooth_classifier(name: str) -> Classifier:
    """With BatchNorm in training mode, whose ordinary forward moves its statistics."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 4, 3, 1, 1), nn.Softplus()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    return Classifier(network, attribution=INPUT_ATTRIBUTIONS[name]).double()


@every_attribution
def test_the_gradient_of_a_loss_on_maps_is_its_finite_difference(name: str) -> None:
    """Second order, in every weight; the last bias alone moves no map."""
    classifier, images = smooth_classifier(name), some_images(count=3, side=8).double()
    weights = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1)).double()

    def loss() -> Tensor:
        maps = copy.deepcopy(classifier)(images, explain=some_labels(3)).cam
        return (maps * weights).sum()

    moved: Any = copy.deepcopy(classifier)
    (moved(images, explain=some_labels(3)).cam * weights).sum().backward()
    for parameter, changed in zip(classifier.parameters(), moved.parameters(), strict=True):
        flat = parameter.detach().view(-1)
        gradient = torch.zeros_like(flat) if changed.grad is None else changed.grad.flatten()
        for index in range(0, len(flat), max(1, len(flat) // 7)):
            centre, values = float(flat[index]), []
            for step in (1e-5, -1e-5):
                flat[index] = centre + step
                values.append(float(loss().detach()))
            flat[index] = centre
            assert float(gradient[index]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-9)
    assert moved.network[0].weight.grad.abs().max() > 1e-4


@every_attribution
def test_batchnorm_moves_as_one_ordinary_forward_moves_it_and_modes_stay(name: str) -> None:
    for frozen in (False, True):
        explained = make(name, freeze_batchnorm=frozen)
        plain, modes = copy.deepcopy(explained), [module.training for module in explained.modules()]
        before = copy.deepcopy(dict(explained.named_buffers()))
        logits = explained(some_images(), explain=some_labels()).logits
        assert torch.equal(logits, plain(some_images()))
        after, buffers = dict(explained.named_buffers()), dict(plain.named_buffers())
        assert all(torch.equal(after[name], value) for name, value in buffers.items())
        assert frozen == all(torch.equal(after[name], value) for name, value in before.items())
        assert [module.training for module in explained.modules()] == modes


@every_attribution
def test_a_map_does_not_depend_on_the_batch_or_the_mode(name: str) -> None:
    classifier, images, labels = make(name), some_images(), some_labels()
    state = copy.deepcopy(classifier.state_dict())
    together = classifier(images, explain=labels).cam
    classifier.load_state_dict(state)
    alone = classifier(images[:2], explain=labels[:2]).cam
    classifier.load_state_dict(state)
    evaluated = classifier.eval()(images, explain=labels).cam
    assert relative_error(alone, together[:2]) < 1e-4
    assert relative_error(evaluated, together) < 1e-4


@every_attribution
def test_dropout_and_autocast_leave_a_map_as_it_is(name: str) -> None:
    layers = [nn.Conv2d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 4)]
    classifier, images = Classifier(nn.Sequential(*layers), attribution=INPUT_ATTRIBUTIONS[name]), some_images()
    first = classifier(images, explain=some_labels())
    with torch.autocast("cpu", torch.bfloat16):
        second = classifier(images, explain=some_labels())
    assert second.logits.dtype == torch.bfloat16 and not torch.equal(first.logits, second.logits.float())
    assert torch.equal(first.cam, second.cam)


@every_attribution
def test_without_gradients_a_map_is_the_same_and_keeps_no_graph(name: str) -> None:
    classifier = make(name, freeze_batchnorm=True)
    expected = classifier(some_images(), explain=some_labels()).cam
    with torch.no_grad():
        logits, maps = classifier(some_images(), explain=some_labels())
    assert expected.requires_grad and not maps.requires_grad and not logits.requires_grad
    assert relative_error(maps, expected) < 1e-6
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_input_gradients_are_never_negative_and_integrated_ones_have_signs() -> None:
    classifier, images = make("input_gradient").eval(), some_images()
    assert float(input_gradient(classifier, images, some_labels(), False).min()) >= 0
    signed = integrated_gradients(classifier, images, some_labels(), False)
    assert float(signed.min()) < 0 < float(signed.max())
