"""Maskers: images (B, 3, H, W) → soft masks (B, H, W) in [0, 1], the evidence for the class.

The paper says "lightweight convolutional network" and no more (paper.md section 1.2): width and depth are
options. Adding another is one entry in `MASKERS`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align_dist.networks.backbones import build_backbone


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    # GroupNorm: a mask must not depend on which other pictures share its batch.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
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

    def forward(self, images: Tensor) -> Tensor:
        levels = [self.first(images)]
        for down in self.down:
            levels.append(down(levels[-1]))
        decoded = levels.pop()
        for up in reversed(self.up):
            skip = levels.pop()
            decoded = up(torch.cat([skip, _enlarge(decoded, skip)], dim=1))
        mask: Tensor = torch.sigmoid(_enlarge(self.last(decoded), images))[:, 0]
        return mask


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

    def forward(self, images: Tensor) -> Tensor:
        features = self._features(images)
        decoded = self.up[0](features.pop())
        for up in self.up[1:]:
            skip = features.pop()
            decoded = up(torch.cat([skip, _enlarge(decoded, skip)], dim=1))
        mask: Tensor = torch.sigmoid(_enlarge(self.last(decoded), images))[:, 0]
        return mask

    def _features(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        taps = [block for block, _ in self.TAPS]
        with torch.no_grad():
            hidden = self.stem(images)
            for index, block in enumerate(self.blocks):
                hidden = block(hidden)
                if index in taps:
                    found.append(self.scale[len(found)](hidden))
        return found


def _enlarge(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)


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
