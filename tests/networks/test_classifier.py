from __future__ import annotations

import copy

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from align_dist.networks.backbones import build_backbone
from align_dist.networks.classifier import Classifier, predict

torch.set_num_threads(1)
CLASSES = 4


def some_images(seed: int = 0, count: int = 6, side: int = 48) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def some_labels() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 0, 1])


def make(backbone: str = "resnet8", freeze_batchnorm: bool = False) -> Classifier:
    torch.manual_seed(0)
    network = build_backbone(backbone, CLASSES, pretrained=False, small_images=False)
    return Classifier(network, freeze_batchnorm).train()


def running_statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.named_buffers()}


def unequal(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def test_two_linear_layers_go_through_autograd_and_agree_with_captum() -> None:
    classifier = make("mobilenet_v3_small").eval()
    assert not classifier.closed_form
    images, labels = some_images(side=64), some_labels()
    logits, cam = classifier(images, explain=labels)
    torch.testing.assert_close(logits, classifier(images))
    gradcam = LayerGradCam(classifier.network, classifier.network.get_submodule("features"))
    expected = gradcam.attribute(images, labels, attr_dim_summation=True)[:, 0]
    assert float((cam - expected).detach().abs().max() / expected.detach().abs().max()) < 1e-5


@pytest.mark.parametrize("backbone", ["resnet8", "mobilenet_v3_small"])
def test_each_image_is_explained_for_its_own_label(backbone: str) -> None:
    classifier, images = make(backbone).eval(), some_images()
    labels = some_labels()
    mixed = classifier(images, explain=labels).cam
    for label in range(CLASSES):
        of_label = classifier(images, explain=torch.full((6,), label)).cam
        difference = (mixed - of_label).abs().amax((1, 2)) / mixed.abs().amax((1, 2))
        assert (difference[labels == label] < 1e-4).all() and (difference[labels != label] > 0.01).all()


@pytest.mark.parametrize("mode", [True, False])
def test_explaining_does_not_change_the_logits(mode: bool) -> None:
    classifier, images = make().train(mode), some_images()
    plain = classifier(images)
    torch.testing.assert_close(classifier(images, explain=some_labels()).logits, plain)


@pytest.mark.parametrize("backbone", ["resnet8", "mobilenet_v3_small"])
def test_explaining_moves_batchnorm_as_one_plain_forward_does(backbone: str) -> None:
    plain = make(backbone)
    explained = copy.deepcopy(plain)
    plain(some_images())
    explained(some_images(), explain=some_labels())
    assert unequal(running_statistics(plain), running_statistics(explained)) == []


def test_frozen_batchnorm_keeps_its_statistics_and_trains_its_weights() -> None:
    classifier = make(freeze_batchnorm=True)
    before = running_statistics(classifier)
    logits, cam = classifier(some_images(), explain=some_labels())
    (logits.square().mean() + cam.square().mean()).backward()
    assert unequal(before, running_statistics(classifier)) == []
    weight = classifier.get_submodule("network.layer2.0.bn1").weight
    assert isinstance(weight, Tensor) and weight.grad is not None and weight.grad.abs().max() > 0
    classifier.eval().train()
    classifier(some_images(1))
    assert unequal(before, running_statistics(classifier)) == []


def test_batchnorm_that_is_not_frozen_moves_in_training_and_not_in_evaluation() -> None:
    classifier = make()
    before = running_statistics(classifier)
    classifier.eval()(some_images(), explain=some_labels())
    assert unequal(before, running_statistics(classifier)) == []
    classifier.train()(some_images(), explain=some_labels())
    assert unequal(before, running_statistics(classifier)) == list(before)


def test_frozen_batchnorm_makes_an_image_independent_of_its_batch() -> None:
    images = some_images()
    frozen, free = make(freeze_batchnorm=True), make()
    torch.testing.assert_close(frozen(images)[:2], frozen(images[:2]))
    assert not torch.allclose(free(images)[:2], free(images[:2]), atol=1e-3)


def test_a_trained_classifier_is_a_plain_torchvision_network() -> None:
    from torchvision.models import resnet18

    classifier = make("resnet18")
    optimiser = torch.optim.SGD(classifier.parameters(), 0.01)
    for seed in range(2):
        logits, cam = classifier(some_images(seed), explain=some_labels())
        (nn.functional.cross_entropy(logits, some_labels()) + cam.square().mean()).backward()
        optimiser.step()
    plain = resnet18(num_classes=CLASSES)
    plain.load_state_dict(classifier.export(), strict=True)
    with torch.no_grad():
        assert torch.equal(plain.eval()(some_images(9)), classifier.eval()(some_images(9)))


def test_exported_weights_do_not_follow_later_training() -> None:
    classifier = make()
    exported = classifier.export()
    snapshot = copy.deepcopy(exported)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(1.0)
    assert unequal(snapshot, exported) == []
    assert unequal(snapshot, classifier.export()) != []


def test_a_state_dict_round_trip_gives_the_same_network() -> None:
    first, second = make("mobilenet_v3_small"), make("mobilenet_v3_small")
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.01)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.eval()(some_images()), second.eval()(some_images()))


def test_under_autocast_maps_and_logits_stay_close_to_float32() -> None:
    classifier = make().eval()
    exact = classifier(some_images(), explain=some_labels())
    with torch.autocast("cpu", torch.bfloat16):
        outputs = classifier(some_images(), explain=some_labels())
    for value, expected in zip(outputs, exact, strict=True):
        assert float((value.float() - expected).abs().max() / expected.abs().max()) < 0.1


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    probabilities = predict(nn.Flatten(), torch.tensor([[[[0.0, 1.0]]]]).log_softmax(3).repeat(2, 1, 1, 1))
    assert probabilities[0].tolist() == pytest.approx([1 / (1 + 2.718281828), 2.718281828 / (1 + 2.718281828)])
    assert probabilities.sum(1).tolist() == pytest.approx([1.0, 1.0])


def test_a_map_in_training_is_that_of_the_head_without_its_dropout() -> None:
    """Twice the same though the logits differ, and autograd's where nothing is dropped."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 4)]
    classifier, images, labels = Classifier(nn.Sequential(*layers)), torch.randn(5, 3, 9, 9), torch.arange(5) % 4
    first, second = (classifier(images, explain=labels) for _ in range(2))
    assert not torch.equal(first.logits, second.logits)
    assert torch.equal(first.cam, second.cam)
    classifier.eval()
    classifier.closed_form = False
    torch.testing.assert_close(first.cam, classifier(images, explain=labels).cam)
