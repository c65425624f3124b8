from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from align_dist.attribution import Normalisation, autograd_cam, linear_head_cam, normalise, resize_map
from align_dist.networks.backbones import build_backbone
from align_dist.networks.classifier import Classifier
from align_dist.objectives import guidance

torch.set_num_threads(1)
KINDS: tuple[Normalisation, ...] = ("minmax", "relu_max")
# The last module before global average pooling, where DRE attaches captum.
LAST_STAGE = {"resnet18": "layer4", "resnet50": "layer4", "efficientnet_lite0": "_swish"}


def make_classifier(backbone: str, classes: int = 5) -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_backbone(backbone, classes, pretrained=False, small_images=False)).eval()


def make_batch(count: int = 3, side: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, side, side, generator=generator), torch.arange(count) + 1


def some_maps(seed: int, count: int = 4, height: int = 6, width: int = 7) -> Tensor:
    return torch.randn(count, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("backbone", LAST_STAGE)
def test_the_closed_form_is_captums_and_autograds(backbone: str) -> None:
    classifier, (images, labels) = make_classifier(backbone), make_batch()
    assert classifier.closed_form
    logits, cam = classifier(images, explain=labels)
    classifier.closed_form = False
    general_logits, general_cam = classifier(images, explain=labels)
    stage = classifier.network.get_submodule(LAST_STAGE[backbone])
    captum = LayerGradCam(classifier.network, stage).attribute(images, labels, attr_dim_summation=True)[:, 0]
    assert cam.shape == (3, 2, 2)
    assert relative_error(logits, classifier.network(images)) <= 1e-5
    assert relative_error(general_logits, classifier.network(images)) <= 1e-5
    assert relative_error(cam, captum) <= 1e-5
    assert relative_error(general_cam, captum) <= 1e-5


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
def test_explaining_a_map_trains_through_the_activations_only(backbone: str) -> None:
    """Reference: captum's map, whose channel weights are constants, under the same loss."""
    classifier, (images, labels) = make_classifier(backbone), make_batch()
    weights = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(2))
    stage = classifier.network.get_submodule(LAST_STAGE[backbone])
    maps = {"closed": classifier(images, explain=labels).cam}
    classifier.closed_form = False
    maps["general"] = classifier(images, explain=labels).cam
    maps["captum"] = LayerGradCam(classifier.network, stage).attribute(images, labels, attr_dim_summation=True)[:, 0]
    gradients = {name: parameter_gradients(classifier, (cam * weights).sum()) for name, cam in maps.items()}
    assert gradients["captum"].abs().max() > 0
    assert relative_error(gradients["closed"], gradients["captum"]) <= 1e-4
    assert relative_error(gradients["general"], gradients["captum"]) <= 1e-4


def parameter_gradients(module: nn.Module, loss: Tensor) -> Tensor:
    """All in one vector; zero where the loss does not depend on a parameter."""
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def test_the_closed_form_by_hand() -> None:
    """Two channels on a 1 x 2 map: Phi = (W[y, 0] A_0 + W[y, 1] A_1) / 2, and W gets no gradient."""
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -4.0]]]], requires_grad=True)
    weight = torch.tensor([[9.0, 9.0], [2.0, -1.0]], requires_grad=True)
    cam = linear_head_cam(features, weight, torch.tensor([1]))
    assert cam.tolist() == [[[-0.5, 4.0]]]
    cam.sum().backward()
    assert weight.grad is None
    assert features.grad is not None and features.grad.tolist() == [[[[1.0, 1.0]], [[-0.5, -0.5]]]]


@pytest.mark.parametrize("closed_form", [True, False])
def test_no_map_is_rounded_to_sixteen_bits_before_it_is_stretched(closed_form: bool) -> None:
    """By autocast, which rounds products of matrices: a flat map's shape would be lost."""
    features = (5 + torch.rand(4, 64, 6, 6, generator=torch.Generator().manual_seed(0))).requires_grad_()
    head, labels = nn.Linear(64, 10), torch.tensor([3, 1, 4, 1])

    def normalised() -> Tensor:
        if closed_form:
            return normalise(linear_head_cam(features, head.weight, labels))
        logits = features.mean((2, 3)) @ head.weight.T
        return normalise(autograd_cam(logits, features, labels))

    with torch.autocast("cpu", torch.bfloat16):
        maps = normalised()
    assert maps.dtype == torch.float32
    # What is left is the rounding of autograd's channel weights, which are 16 bits in autocast's backward pass.
    torch.testing.assert_close(maps, normalised(), rtol=0, atol=1e-5 if closed_form else 0.02)


def test_any_head_goes_through_autograd() -> None:
    """A quadratic head: d logit / d A is 2 A, so Phi = mean(2 A) A for the single channel."""
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]], requires_grad=True)
    cam = autograd_cam(features.square().sum((2, 3)), features, torch.tensor([0]))
    assert cam.tolist() == [[[6.0, 12.0], [18.0, 36.0]]]
    (gradient,) = torch.autograd.grad(cam.sum(), features)
    assert (gradient == 6).all()  # the channel weight is a constant


def test_explanations_of_one_batch_are_independent() -> None:
    classifier, (images, labels) = make_classifier("resnet18"), make_batch()
    together = classifier(images, explain=labels).cam
    for index in range(3):
        alone = classifier(images[index : index + 1], explain=labels[index : index + 1]).cam
        torch.testing.assert_close(alone, together[index : index + 1], rtol=1e-4, atol=1e-6)


def test_an_explanation_without_gradients_is_the_same() -> None:
    classifier, (images, labels) = make_classifier("resnet18"), make_batch()
    expected = classifier(images, explain=labels).cam
    for closed_form in (True, False):
        classifier.closed_form = closed_form
        with torch.no_grad():
            cam = classifier(images, explain=labels).cam
        assert not cam.requires_grad
        assert relative_error(cam, expected) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1e6), offset=st.floats(-5, 5))
def test_normalised_maps_lie_in_the_unit_interval_whatever_the_scale(
    kind: Normalisation, seed: int, scale: float, offset: float
) -> None:
    maps = some_maps(seed) + offset
    unit_maps = normalise(maps, kind)
    assert unit_maps.min() >= 0 and unit_maps.max() <= 1
    torch.testing.assert_close(normalise(scale * maps, kind), unit_maps, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 10_000), index=st.integers(0, 3))
def test_maps_are_normalised_image_by_image(seed: int, index: int) -> None:
    maps = some_maps(seed)
    for kind in KINDS:
        assert torch.equal(normalise(maps, kind)[index], normalise(maps[index : index + 1], kind)[0])


def test_without_an_epsilon_it_is_plain_min_max_and_plain_rectification() -> None:
    maps = some_maps(0)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    torch.testing.assert_close(normalise(maps, "minmax", 0.0), (maps - low) / (high - low))
    torch.testing.assert_close(normalise(maps, "relu_max", 0.0), maps.relu() / high)


def test_the_epsilon_by_hand() -> None:
    """Range 8, largest magnitude 6, epsilon 0.5: the divisors are 8 + 3 and 6 + 3."""
    maps = torch.tensor([[[-2.0, 0.0], [2.0, 6.0]]])
    torch.testing.assert_close(normalise(maps, "minmax", 0.5), torch.tensor([[[0.0, 2 / 11], [4 / 11, 8 / 11]]]))
    torch.testing.assert_close(normalise(maps, "relu_max", 0.5), torch.tensor([[[0.0, 0.0], [2 / 9, 6 / 9]]]))


def test_order_is_kept_and_extremes_are_reached() -> None:
    maps = some_maps(3)
    unit_maps = normalise(maps)
    assert torch.equal(unit_maps.flatten(1).argsort(), maps.flatten(1).argsort())
    assert (unit_maps.amin((1, 2)) == 0).all() and (unit_maps.amax((1, 2)) > 0.95).all()


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-20, 1e20])
def test_a_constant_map_becomes_zeros(value: float) -> None:
    assert (normalise(torch.full((2, 6, 6), value)) == 0).all()


def test_a_map_without_positive_evidence_is_zeros_when_rectified() -> None:
    assert (normalise(-some_maps(1).abs(), "relu_max") == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_gradients_at_a_constant_map_are_finite_and_moderate(kind: Normalisation, value: float) -> None:
    """One dead map must not end a run: its guidance and its own gradient stay numbers, far from overflow."""
    maps = torch.full((2, 6, 6), value, requires_grad=True)
    mask = torch.rand(2, 24, 24, generator=torch.Generator().manual_seed(0))
    for loss in (normalise(maps, kind).sum(), guidance(maps, mask, kind)):
        (gradient,) = torch.autograd.grad(loss, maps)
        assert torch.isfinite(gradient).all() and gradient.abs().max() < 1e6


def test_gradients_without_an_epsilon_are_finite_differences() -> None:
    """With one they are not quite: the scale it multiplies is held constant."""
    maps = some_maps(5, 2, 3, 3).requires_grad_()
    for kind in KINDS:
        assert torch.autograd.gradcheck(lambda m, kind=kind: normalise(m, kind, 0.0), maps)


@pytest.mark.parametrize("size", [(6, 7), (12, 14), (48, 48), (3, 3)])
def test_resizing_keeps_constants_and_the_range(size: tuple[int, int]) -> None:
    maps = some_maps(7)
    resized_maps = resize_map(maps, size)
    assert resized_maps.shape == (4, *size)
    assert resized_maps.min() >= maps.min() - 1e-9 and resized_maps.max() <= maps.max() + 1e-9
    torch.testing.assert_close(resize_map(torch.full_like(maps, 0.3), size), torch.full_like(resized_maps, 0.3))


def test_resizing_to_the_same_size_changes_nothing() -> None:
    maps = some_maps(8)
    assert torch.equal(resize_map(maps, (6, 7)), maps)


def test_enlarging_by_hand() -> None:
    """Bilinear with pixel centres: 0, 1 at a fourfold width."""
    enlarged_map = resize_map(torch.tensor([[[0.0, 1.0]]]), (1, 8))
    expected = [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0]
    assert enlarged_map[0, 0].tolist() == pytest.approx(expected)


def test_shrinking_averages_what_it_leaves_out() -> None:
    """A single bright pixel survives as its share; interpolation without antialiasing would drop it."""
    maps: Any = torch.zeros(1, 32, 32)
    maps[0, 17, 17] = 1.0
    small_map = resize_map(maps, (4, 4))
    assert float(small_map.sum()) == pytest.approx(1 / 64, rel=0.3)
