"""Where in an image the cells of a feature map lie: at the centres of their receptive fields, which are off an even
grid wherever a network pads and halves (3.5 of 48 px for resnet8, 15.5 of 224 for resnet50).

Source: Araujo, Norris and Sim 2019, https://distill.pub/2019/computing-receptive-fields, start and jump.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# Halved five times it stays whole, and no padded size on the way is one of the others.
TRACED_SIDE = 320


class Places(NamedTuple):
    """The pixel at which the first cell's receptive field has its centre, and how many pixels lie between two cells."""

    start: float
    stride: float


def last_pooling(network: nn.Module) -> str:
    """The name of the pooling before the head. Raises ValueError where there is none."""
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    if not names:
        raise ValueError(f"{type(network).__name__} has no nn.AdaptiveAvgPool2d: Grad-CAM has no place to look at")
    return names[-1]


def places_of(network: nn.Module) -> Places:
    """The places of the network's last feature map, by its strides and paddings.

    Traced without computing anything. Branches that meet have maps of one size, whose places are the same. Raises
    ValueError where the map's size is made by something else than convolutions, poolings and paddings.
    """
    traced = copy.deepcopy(network).to("meta").eval()
    by_size, wanted = {TRACED_SIDE: Places(0.0, 1.0)}, list[int]()
    for module in traced.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ZeroPad2d)):
            module.register_forward_hook(_recording(by_size))
    traced.get_submodule(last_pooling(traced)).register_forward_pre_hook(
        lambda _, inputs: wanted.append(inputs[0].shape[-1])
    )
    with torch.no_grad():
        traced(torch.empty(2, 3, TRACED_SIDE, TRACED_SIDE, device="meta"))
    if wanted[-1] not in by_size:
        raise ValueError(f"{type(network).__name__}: where the cells of its last feature map lie cannot be told")
    return by_size[wanted[-1]]


def evenly_placed(maps: Tensor, places: Places, image_size: tuple[int, int]) -> Tensor:
    """Maps (B, h, w) at cells that divide an image of (H, W) evenly, by bilinear interpolation between their places, in
    float32; beyond the outermost places their values go on.
    """
    down, across = (
        _interpolation(cells, places, pixels, maps.device)
        for cells, pixels in zip(maps.shape[-2:], image_size, strict=True)
    )
    # Sums, not matrix products, which autocast would round to bfloat16.
    rows = (down[:, :, None] * maps.float()[:, None]).sum(2)
    return (rows[:, :, None] * across).sum(3)


def _interpolation(cells: int, places: Places, pixels: int, device: torch.device) -> Tensor:
    """(cells, cells): the weights of the values at `places` in the value at each even cell's centre."""
    numbers = torch.arange(cells, device=device, dtype=torch.float32)
    centres = (numbers + 0.5) * (pixels / cells) - 0.5
    positions = ((centres - places.start) / places.stride).clamp(0, cells - 1)
    return (1 - (positions[:, None] - numbers).abs()).clamp_min(0)


def _recording(by_size: dict[int, Places]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """A forward hook that enters the places of a module's output by those of its input."""

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        before = by_size.get(inputs[0].shape[-1])
        if before is not None:
            start = before.start + _first_centre(module) * before.stride
            by_size.setdefault(output.shape[-1], Places(start, before.stride * _last(getattr(module, "stride", 1))))

    return record


def _first_centre(module: nn.Module) -> float:
    """Where in its input the window of a module's first output has its centre."""
    if isinstance(module, nn.ZeroPad2d):
        return -float(module.padding[0])
    reach = _last(module.kernel_size) - 1
    if isinstance(module, nn.Conv2d) and module.padding == "same":
        return 0.0
    # EfficientNet-Lite0's convolutions pad by a module of their own, more on the right than on the left.
    inner = getattr(module, "static_padding", None)
    left = inner.padding[0] if isinstance(inner, nn.ZeroPad2d) else _last(module.padding)
    return reach * _last(getattr(module, "dilation", 1)) / 2 - float(left)


def _last(value: Any) -> int:
    """The entry across of a module's setting, which is one number or a pair."""
    return int(value[-1] if isinstance(value, (tuple, list)) else value)
