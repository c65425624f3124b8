"""Maskers: images (B, 3, H, W) → soft masks (B, H, W) in [0, 1], the evidence for the class.

`masker(images)` is the mask; `masker(images, masker.features(images))` as well, and the features, which stay fixed,
serve every pass over the same images.

The paper says "lightweight convolutional network" and no more (paper.md section 1.2): width and depth are
options. Adding another is one entry in `MASKERS`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align_dist.modes import in_full_precision
from align_dist.networks.backbones import build_backbone


class _Convolution(nn.Conv2d):
    """A convolution of contiguous maps, whatever the layout of the pictures and the run's networks.

    GroupNorm follows: its backward pass in channels_last takes 10 to 30 times as long on a CPU, and copies on CUDA.
    """

    def forward(self, maps: Tensor) -> Tensor:
        convolved: Tensor = self._conv_forward(maps.contiguous(), self.weight.contiguous(), self.bias)
        return convolved


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    # GroupNorm: a mask must not depend on which other pictures share its batch.
    return nn.Sequential(
        _Convolution(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(math.gcd(8, outputs), outputs),
        nn.ReLU(inplace=True),
    )


class EncoderDecoder(nn.Module):
    """Works from half the image's resolution down `depth` halvings and back, with skip connections.

    A small U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) whose mask is enlarged to the
    image: full resolution costs four times as much and tells no more about where an object is. width:
    channels at half resolution, doubled at each halving. area: the mask's mean at first, so that L_dist
    starts with something to see in both x⊙M and x⊙(1−M).
    """

    def __init__(self, width: int = 16, depth: int = 2, area: float = 0.5) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.first = _block(3, width, stride=2)
        self.down = nn.ModuleList(_block(a, b, stride=2) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in itertools.pairwise(widths))
        self.last = nn.Conv2d(width, 1, 1)
        nn.init.constant_(self.last.bias, math.log(area / (1 - area)))  # type: ignore[arg-type]

    def features(self, images: Tensor) -> list[Tensor]:
        """Nothing: all of this masker learns."""
        return []

    def forward(self, images: Tensor, features: Sequence[Tensor] = ()) -> Tensor:
        levels = [self.first(images)]
        for down in self.down:
            levels.append(down(levels[-1]))
        decoded = levels.pop()
        for up in reversed(self.up):
            skip = levels.pop()
            decoded = up(torch.cat([skip, _enlarge(decoded, skip)], dim=1))
        return _mask(self.last(decoded), images)


class PretrainedEncoder(nn.Module):
    """A decoder over EfficientNet-Lite0's ImageNet features, which stay as they are; only the decoder learns.

    A few hundred steps teach a network from scratch little more than the picture's middle; on these features
    it finds objects in tens. After Dabkowski and Gal 2017 (https://arxiv.org/abs/1705.07857), whose masker is a
    U-Net on a pretrained classifier. Features at strides 4, 8 and 16, mask from stride 4. width: the decoder's
    channels at its finest. area: as in `EncoderDecoder`.
    """

    # The last block at each stride, and its channels.
    TAPS = ((2, 24), (4, 40), (10, 112))

    def __init__(self, width: int = 16, area: float = 0.5) -> None:
        super().__init__()
        network: Any = build_backbone("efficientnet_lite0", 1, pretrained=True, small_images=True)
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = network._blocks[: self.TAPS[-1][0] + 1]
        self.stem.requires_grad_(False)
        self.blocks.requires_grad_(False)
        self.scale = nn.ModuleList(nn.GroupNorm(1, channels, affine=False) for _, channels in self.TAPS)
        fine, middle, coarse = (channels for _, channels in self.TAPS)
        self.up = nn.ModuleList(
            [_block(coarse, 2 * width), _block(2 * width + middle, 2 * width), _block(2 * width + fine, width)]
        )
        self.last = nn.Conv2d(width, 1, 1)
        nn.init.constant_(self.last.bias, math.log(area / (1 - area)))  # type: ignore[arg-type]
        self.train()

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """The features' BatchNorm stays in evaluation: a mask must not depend on the other pictures."""
        super().train(mode)
        self.stem.eval()
        self.blocks.eval()
        return self

    def forward(self, images: Tensor, features: Sequence[Tensor] = ()) -> Tensor:
        """features: those of these images, where they are there already; see `features`."""
        *skips, coarsest = features or self.features(images)
        decoded = self.up[0](coarsest)
        for up, skip in zip(self.up[1:], reversed(skips), strict=True):
            decoded = up(torch.cat([skip, _enlarge(decoded, skip)], dim=1))
        return _mask(self.last(decoded), images)

    def features(self, images: Tensor) -> list[Tensor]:
        """What the decoder reads, finest first. It does not change while the decoder learns: once a batch is enough."""
        found: list[Tensor] = []
        taps = [block for block, _ in self.TAPS]
        with torch.no_grad():
            hidden = self.stem(images)
            for index, block in enumerate(self.blocks):
                hidden = block(hidden)
                if index in taps:
                    found.append(self.scale[len(found)](hidden).contiguous())
        return found


def _mask(scores: Tensor, images: Tensor) -> Tensor:
    """Masks (B, H, W) in [0, 1] of scores (B, 1, h, w), in float32 at least, whatever came before.

    In bfloat16 a sigmoid is exactly 1 from 6.2 on, with gradient 0, and neighbours on a slope are equal.
    """
    with in_full_precision(scores):
        precise = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return torch.sigmoid(_enlarge(precise, images))[:, 0]


def _enlarge(maps: Tensor, like: Tensor) -> Tensor:
    """Bilinear resizing of maps (B, C, h, w) to the size of `like`, as two products of matrices.

    Equal to `F.interpolate`, which takes several times as long for it on a CPU, and whose gradient on CUDA is not
    the same twice.
    """
    height, width = like.shape[-2:]
    down, across = (_interpolation(a, b, maps) for a, b in ((maps.shape[-2], height), (maps.shape[-1], width)))
    return down.T @ (maps.contiguous() @ across)


def _interpolation(size: int, enlarged: int, like: Tensor) -> Tensor:
    """The matrix of linear interpolation, (size, enlarged): its row i is what place i alone becomes."""
    places = torch.eye(size, dtype=like.dtype, device=like.device)
    return F.interpolate(places[None], enlarged, mode="linear", align_corners=False)[0]


MASKERS: dict[str, Callable[[int, float], nn.Module]] = {
    "small": lambda width, area: EncoderDecoder(width, 2, area),
    "large": lambda width, area: EncoderDecoder(width, 4, area),
    "pretrained": PretrainedEncoder,
}


def build_masker(kind: str, width: int, area: float) -> nn.Module:
    """A masker by name: `small` sees a quarter as far as `large`, which halves twice more.

    `pretrained` reads EfficientNet-Lite0's ImageNet features. Raises MachineError where that is not installed.
    """
    return MASKERS[kind](width, area)
