from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from align_dist.networks.backbones import build_backbone
from align_dist.networks.masker import MASKERS, build_masker

torch.set_num_threads(1)


def make(kind: str = "small", width: int = 8, area: float = 0.5, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_masker(kind, width, area)


def some_images(seed: int, count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", MASKERS)
@given(height=st.integers(16, 70), width=st.integers(16, 70), count=st.integers(1, 3))
@settings(max_examples=20)
def test_a_mask_has_its_images_size_whatever_it_divides_by(kind: str, height: int, width: int, count: int) -> None:
    mask = make(kind)(some_images(0, count, height, width))
    assert mask.shape == (count, height, width)
    assert mask.min() >= 0 and mask.max() <= 1


@pytest.mark.parametrize("kind", MASKERS)
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_a_mask_is_a_mask_for_any_picture(kind: str, scale: float) -> None:
    mask = make(kind)(scale * some_images(0, 2, 32, 32))
    assert torch.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1


@pytest.mark.parametrize("kind", MASKERS)
@pytest.mark.parametrize("area", [0.2, 0.5, 0.8])
def test_masks_start_near_the_area_asked_for(kind: str, area: float) -> None:
    images = some_images(1, 4, 64, 64)
    with torch.no_grad():
        areas = [float(make(kind, 16, area, seed)(images).mean()) for seed in range(5)]
    assert sum(areas) / 5 == pytest.approx(area, abs=0.1)
    assert max(abs(mean - area) for mean in areas) < 0.25


@pytest.mark.parametrize("kind", MASKERS)
@pytest.mark.parametrize("mode", [True, False])
def test_a_mask_does_not_depend_on_the_other_images_or_on_the_mode(kind: str, mode: bool) -> None:
    masker, images = make(kind), some_images(2, 5, 33, 47)
    together = masker.train(mode)(images)
    for index in range(5):
        torch.testing.assert_close(masker(images[index : index + 1])[0], together[index], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(masker.train(not mode)(images), together)


@pytest.mark.parametrize("kind", MASKERS)
def test_a_mask_depends_on_its_picture_and_on_every_weight(kind: str) -> None:
    masker = make(kind)
    mask = masker(some_images(3, 2, 48, 48))
    assert (mask[0] - mask[1]).abs().max() > 1e-3 and mask[0].std() > 1e-3
    (mask * some_images(4, 2, 48, 48)[:, 0]).sum().backward()
    for name, parameter in masker.named_parameters():
        if name.startswith(("stem", "blocks")):  # the features that `pretrained` only reads
            assert parameter.grad is None
            continue
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", MASKERS)
@pytest.mark.parametrize("width", [1, 4, 12, 20])
def test_any_width_will_do(kind: str, width: int) -> None:
    """`masker.width` takes every count from 1."""
    assert make(kind, width)(some_images(5, 1, 32, 32)).shape == (1, 32, 32)


def test_pretrained_features_are_those_of_the_backbone_and_stay() -> None:
    masker, images = make("pretrained"), some_images(7, 2, 64, 64)
    network: Any = build_backbone("efficientnet_lite0", 3, pretrained=True, small_images=True).eval()
    outputs: list[Tensor] = []
    network._blocks[10].register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    weights = {name: value.clone() for name, value in masker.state_dict().items()}
    with torch.no_grad():
        network(images)
    coarse = masker.train().features(images)[-1]  # type: ignore[operator]
    torch.testing.assert_close(coarse, nn.functional.group_norm(outputs[0], 1), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, weights[name]) for name, value in masker.state_dict().items())


@pytest.mark.parametrize("kind", MASKERS)
def test_features_once_a_batch_give_the_same_mask(kind: str) -> None:
    masker: Any = make(kind)
    images = some_images(8, 2, 48, 48)
    features = masker.features(images)
    assert all(not feature.requires_grad for feature in features) and bool(features) == (kind == "pretrained")
    assert torch.equal(masker(images, features), masker(images))
    assert torch.equal(masker(images, features), masker(images))  # the first call has not used them up


@pytest.mark.parametrize("height, width", [(32, 48), (33, 47), (64, 64)])
def test_a_mask_is_that_of_bilinear_resizing(height: int, width: int) -> None:
    """The U-Net written out with torch's own resizing: mask and gradients."""
    masker: Any = make("small").double()
    images = some_images(9, 2, height, width).double()

    def enlarge(maps: Tensor, like: Tensor) -> Tensor:
        return nn.functional.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)

    half = masker.first(images)
    quarter = masker.down[0](half)
    decoded = masker.up[1](torch.cat([quarter, enlarge(masker.down[1](quarter), quarter)], dim=1))
    decoded = masker.up[0](torch.cat([half, enlarge(decoded, half)], dim=1))
    expected = torch.sigmoid(enlarge(masker.last(decoded), images))[:, 0]
    masks = masker(images)
    torch.testing.assert_close(masks, expected)
    weights = list(masker.parameters())
    for gradient, wanted in zip(
        torch.autograd.grad(masks.square().mean(), weights),
        torch.autograd.grad(expected.square().mean(), weights),
        strict=True,
    ):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("kind", MASKERS)
def test_the_memory_format_of_pictures_and_weights_changes_no_mask(kind: str) -> None:
    masker, images = make(kind), some_images(10, 2, 48, 48)
    expected = masker(images)
    last: Any = torch.channels_last
    torch.testing.assert_close(masker(images.to(memory_format=last)), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(masker.to(memory_format=last)(images), expected, rtol=1e-4, atol=1e-6)  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", MASKERS)
@pytest.mark.parametrize("logit", [6.5, 9.0, -9.0])
def test_in_bfloat16_a_mask_is_float32_from_the_sigmoid_on(kind: str, logit: float) -> None:
    """A bfloat16 sigmoid is exactly 1 there, and has no gradient."""
    assert torch.sigmoid(torch.tensor(6.5, dtype=torch.bfloat16)) == 1
    masker: Any = make(kind)
    nn.init.zeros_(masker.last.weight)
    nn.init.constant_(masker.last.bias, logit)
    with torch.autocast("cpu", torch.bfloat16):
        mask = masker(some_images(11, 1, 32, 32))
    assert mask.dtype == torch.float32
    expected = torch.sigmoid(torch.tensor(logit))
    torch.testing.assert_close(mask, expected.expand_as(mask), rtol=1e-6, atol=0)
    mask.mean().backward()
    torch.testing.assert_close(masker.last.bias.grad, (expected * (1 - expected)).view(1), rtol=2e-2, atol=0)


def test_a_masker_learns_where_a_bright_square_is() -> None:
    """Enough capacity to be of use: the area under the square against the rest, after 60 steps."""
    masker = make("small", 8)
    optimiser = torch.optim.Adam(masker.parameters(), 0.01)
    images, target = some_images(6, 8, 32, 32) / 4, torch.zeros(8, 32, 32)
    for index in range(8):
        top, left = 2 * index, 20 - 2 * index
        target[index, top : top + 12, left : left + 12] = 1
    images += target[:, None]
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy(masker(images), target).backward()
        optimiser.step()
    mask = masker(images)
    assert mask[target == 1].mean() > 0.8 and mask[target == 0].mean() < 0.2
