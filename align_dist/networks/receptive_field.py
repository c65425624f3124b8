"""Where in an image the cells of a network's last feature map look: at the centres of their receptive fields.

Source: Araujo, Norris and Sim 2019, https://distill.pub/2019/computing-receptive-fields, start and jump.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from align_dist.places import Places

# Halved five times it stays whole, and no padded size on the way is one of the others.
TRACED_SIDE = 320


def last_pooling(network: nn.Module) -> str:
    """The name of the pooling before the head. Raises ValueError where there is none."""
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    if not names:
        raise ValueError(f"{type(network).__name__} has no nn.AdaptiveAvgPool2d: Grad-CAM has no place to look at")
    return names[-1]


def places_of(network: nn.Module) -> Places:
    """The places of the network's last feature map, by its strides and paddings.

    Traced without computing anything. Branches that meet have maps of one size, whose places are the same. Raises
    ValueError where the map's size is made by something else than convolutions, poolings and paddings, or no image of
    TRACED_SIDE is taken.
    """
    traced = copy.deepcopy(network).to("meta").eval()
    by_size, wanted = {TRACED_SIDE: Places(0.0, 1.0)}, list[int]()
    for module in traced.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ZeroPad2d)):
            module.register_forward_hook(_recording(by_size))
    traced.get_submodule(last_pooling(traced)).register_forward_pre_hook(
        lambda _, inputs: wanted.append(inputs[0].shape[-1])
    )
    try:
        with torch.no_grad():
            traced(torch.empty(2, 3, TRACED_SIDE, TRACED_SIDE, device="meta"))
    except RuntimeError:  # a network that takes no other size than its own
        wanted.clear()
    if not wanted or wanted[-1] not in by_size:
        raise ValueError(f"{type(network).__name__}: where the cells of its last feature map look cannot be told")
    return by_size[wanted[-1]]


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
