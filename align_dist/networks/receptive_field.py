"""Positions in the image of a network's last feature map: the centres of the cells' receptive fields.

Source: Araujo, Norris and Sim 2019, https://distill.pub/2019/computing-receptive-fields, start and jump.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from align_dist.places import Places

# Divisible by two five times, and no padded size on the way equals another size.
TRACED_SIDE = 320


def last_pooling(network: nn.Module) -> str:
    """Name of the pooling before the head. Raises ValueError for a network without pooling."""
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    if not names:
        raise ValueError(f"{type(network).__name__} has no nn.AdaptiveAvgPool2d, which Grad-CAM needs")
    return names[-1]


def places_of(network: nn.Module) -> Places:
    """The places of a network's last feature map, from strides and paddings, traced on torch's meta device.

    Branches that meet have maps of equal size, whose places are the same. Raises ValueError where the map's size comes
    from other layers than convolutions, poolings and paddings, or where the network refuses images of TRACED_SIDE.
    """
    traced = copy.deepcopy(network).to("meta").eval()
    by_size, pooled_sizes = {TRACED_SIDE: Places(0.0, 1.0)}, list[int]()
    for module in traced.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ZeroPad2d)):
            module.register_forward_hook(_places_hook(by_size))
    traced.get_submodule(last_pooling(traced)).register_forward_pre_hook(
        lambda _, inputs: pooled_sizes.append(inputs[0].shape[-1])
    )
    try:
        with torch.no_grad():
            traced(torch.empty(2, 3, TRACED_SIDE, TRACED_SIDE, device="meta"))
    except RuntimeError:  # a network with a fixed input size
        pooled_sizes.clear()
    if not pooled_sizes or pooled_sizes[-1] not in by_size:
        raise ValueError(f"{type(network).__name__}: the positions of its last feature map's cells are unknown")
    return by_size[pooled_sizes[-1]]


def _places_hook(by_size: dict[int, Places]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """A forward hook that computes the places of a module's output from the places of its input."""

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        input_places = by_size.get(inputs[0].shape[-1])
        if input_places is not None:
            start = input_places.start + _first_centre(module) * input_places.stride
            by_size.setdefault(
                output.shape[-1], Places(start, input_places.stride * _last(getattr(module, "stride", 1)))
            )

    return record


def _first_centre(module: nn.Module) -> float:
    """Position in the input of the centre of the first output's window."""
    if isinstance(module, nn.ZeroPad2d):
        return -float(module.padding[0])
    reach = _last(module.kernel_size) - 1
    if isinstance(module, nn.Conv2d) and module.padding == "same":
        return 0.0
    # EfficientNet-Lite0's convolutions pad with a separate module, more on the right than on the left.
    padding = getattr(module, "static_padding", None)
    left = padding.padding[0] if isinstance(padding, nn.ZeroPad2d) else _last(module.padding)
    return reach * _last(getattr(module, "dilation", 1)) / 2 - float(left)


def _last(value: Any) -> int:
    """The horizontal entry of a module's setting, which is a number or a pair."""
    return int(value[-1] if isinstance(value, (tuple, list)) else value)
