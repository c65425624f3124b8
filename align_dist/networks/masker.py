"""Maskers: from images (B, 3, H, W) to soft masks (B, H, W) in [0, 1], the evidence for the class.

`masker(images)` and `masker(images, masker.features(images))` return the same mask. The features are frozen and serve
every pass over the same images.

The paper says only "lightweight convolutional network": width and depth are options. Another
masker is one entry in `MASKERS`.
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
    """A convolution with contiguous inputs and weights, whatever the memory format of images and networks.

    The GroupNorm that follows takes 10 to 30 times as long for a channels_last backward pass on a CPU, and copies on
    CUDA.
    """

    def forward(self, maps: Tensor) -> Tensor:
        convolved: Tensor = self._conv_forward(maps.contiguous(), self.weight.contiguous(), self.bias)
        return convolved


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    # GroupNorm, because a mask must not depend on other images of the batch.
    return nn.Sequential(
        _Convolution(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(math.gcd(8, outputs), outputs),
        nn.ReLU(inplace=True),
    )


class EncoderDecoder(nn.Module):
    """A small U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) from half the image's resolution.

    `depth` further halvings, with skip connections; the mask is upsampled to the image, because full resolution costs
    four times as much and locates objects no better. width: channels at half resolution, doubled at each halving.
    area: the initial mean of the mask, so that x⊙M and x⊙(1−M) both show something to L_dist at the start.
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
        """Return no features: every layer of this masker learns."""
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
    """A trainable decoder over frozen ImageNet features of EfficientNet-Lite0.

    In a few hundred steps a masker from scratch learns little more than the image's centre; on these features a masker
    locates objects within tens of steps. After Dabkowski and Gal 2017 (https://arxiv.org/abs/1705.07857), whose masker
    is a U-Net on a pretrained classifier. Features at strides 4, 8 and 16, mask from stride 4. width: the decoder's
    channels at the finest stride. area: as in `EncoderDecoder`.
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
        """Set the mode; the features' BatchNorm stays in evaluation mode, so that a mask depends on its image alone."""
        super().train(mode)
        self.stem.eval()
        self.blocks.eval()
        return self

    def forward(self, images: Tensor, features: Sequence[Tensor] = ()) -> Tensor:
        """Masks (B, H, W) of images (B, 3, H, W). features: the result of `features(images)`, if already computed."""
        *skips, coarsest = features or self.features(images)
        decoded = self.up[0](coarsest)
        for up, skip in zip(self.up[1:], reversed(skips), strict=True):
            decoded = up(torch.cat([skip, _enlarge(decoded, skip)], dim=1))
        return _mask(self.last(decoded), images)

    def features(self, images: Tensor) -> list[Tensor]:
        """Frozen inputs of the decoder, finest first. Computing the features once per batch is enough."""
        features: list[Tensor] = []
        taps = [block for block, _ in self.TAPS]
        with torch.no_grad():
            hidden = self.stem(images)
            for index, block in enumerate(self.blocks):
                hidden = block(hidden)
                if index in taps:
                    features.append(self.scale[len(features)](hidden).contiguous())
        return features


def _mask(scores: Tensor, images: Tensor) -> Tensor:
    """Masks (B, H, W) in [0, 1] from scores (B, 1, h, w), in float32 at least.

    In bfloat16 a sigmoid is exactly 1 from 6.2 on, with gradient 0, and neighbouring pixels on a slope become equal.
    """
    with in_full_precision(scores):
        precise = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return torch.sigmoid(_enlarge(precise, images))[:, 0]


def _enlarge(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps (B, C, h, w) bilinearly to the size of `like`, as two matrix products.

    Equal to `F.interpolate`, which takes several times as long on a CPU and has a nondeterministic gradient on CUDA.
    """
    height, width = like.shape[-2:]
    down, across = (_interpolation(a, b, maps) for a, b in ((maps.shape[-2], height), (maps.shape[-1], width)))
    return down.T @ (maps.contiguous() @ across)


def _interpolation(size: int, enlarged: int, like: Tensor) -> Tensor:
    """The matrix of linear interpolation, (size, enlarged): row i is the interpolation of unit vector i."""
    identity = torch.eye(size, dtype=like.dtype, device=like.device)
    return F.interpolate(identity[None], enlarged, mode="linear", align_corners=False)[0]


MASKERS: dict[str, Callable[[int, float], nn.Module]] = {
    "small": lambda width, area: EncoderDecoder(width, 2, area),
    "large": lambda width, area: EncoderDecoder(width, 4, area),
    "pretrained": PretrainedEncoder,
}


def build_masker(kind: str, width: int, area: float) -> nn.Module:
    """A masker by name: `large` has two more halvings than `small` and sees four times as far.

    `pretrained` uses EfficientNet-Lite0's ImageNet features. Raises MachineError where that package is missing.
    """
    return MASKERS[kind](width, area)
