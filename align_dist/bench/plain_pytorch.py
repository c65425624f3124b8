"""What a user would write for ALIGN in plain PyTorch: torchvision's folder of pictures, two networks, two optimisers.

Written as well as a careful user would: no copy, pass or wait that the algorithm does not need. Pictures are read by
Pillow and augmented by torchvision in as many worker processes as there are cores, normalised there, and collated to
float32 batches; networks are contiguous and float32, torch has all cores. Each step updates the masker through the
classifier, which is fixed and sees x⊙M and x⊙(1−M) in one pass, then the classifier under the new mask. Grad-CAM is a
second backward from the logit to the last stage's features (hooked), with its graph kept: its loss trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align_dist.config import AugmentationConfig
from align_dist.methods.options import AlignOptions
from align_dist.networks.backbones import Statistics


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Picture files and their labels, as torchvision's ImageFolder gives them."""

    def __init__(self, files: list[tuple[Path, int]], transform: Any) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        path, label = self.files[index]
        with Image.open(path) as picture:
            return self.transform(picture.convert("RGB")), label


def augmentation(chosen: AugmentationConfig, side: int, statistics: Statistics) -> Any:
    """torchvision's transforms of a picture to a normalised tensor (3, side, side)."""
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomResizedCrop(side, chosen.crop_scale, chosen.crop_ratio),
            v2.RandomHorizontalFlip(chosen.flip),
            v2.ColorJitter(*chosen.jitter),
            v2.RandomGrayscale(chosen.greyscale),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*statistics),
        ]
    )


class PlainAlign:
    """One guided step of ALIGN at a time. classifier: ends in pooling and a head. masker: images → (B, H, W)."""

    def __init__(
        self, classifier: nn.Module, masker: nn.Module, options: AlignOptions, rates: tuple[float, float]
    ) -> None:
        self.classifier, self.masker, self.options = classifier.train(), masker.train(), options
        self.of_classifier = torch.optim.Adam(classifier.parameters(), rates[0])
        learning = [parameter for parameter in masker.parameters() if parameter.requires_grad]
        self.of_masker = torch.optim.Adam(learning, rates[1])
        self._features: list[Tensor] = []
        pooling = [module for module in classifier.modules() if isinstance(module, nn.AdaptiveAvgPool2d)][-1]
        pooling.register_forward_pre_hook(lambda _module, inputs: self._features.append(inputs[0]))

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One update of the masker, then one of the classifier."""
        self._update_masker(images, labels)
        self._update_classifier(images, labels)

    def _update_masker(self, images: Tensor, labels: Tensor) -> None:
        self.classifier.requires_grad_(False).eval()
        mask = self.masker(images)
        masked = torch.cat([images * mask[:, None], images * (1 - mask[:, None])])
        kept, removed = torch.softmax(self.classifier(masked), 1).chunk(2)
        difference = (kept - removed).gather(1, labels[:, None])
        smoothness = mask.diff(dim=1).abs().mean() + mask.diff(dim=2).abs().mean()
        loss = (difference - 1).square().mean() + self.options.lambda1 * mask.mean()
        loss = loss + self.options.lambda2 * smoothness
        self.of_masker.zero_grad()
        loss.backward()
        self.of_masker.step()
        self.classifier.requires_grad_(True).train()

    def _update_classifier(self, images: Tensor, labels: Tensor) -> None:
        with torch.no_grad():
            mask = self.masker(images)
        self._features.clear()
        logits = self.classifier(images)
        (features,) = self._features
        score = logits.gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, features, create_graph=True)
        cam = (gradient.mean((2, 3), keepdim=True) * features).sum(1)
        low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
        epsilon = self.options.cam_epsilon
        attribution = ((cam - low) / (high - low + epsilon)).clamp(epsilon, 1 - epsilon)
        target = F.adaptive_avg_pool2d(mask[:, None], attribution.shape[-2:])[:, 0]  # type: ignore[arg-type]
        guidance = F.binary_cross_entropy(attribution, target)
        loss = F.cross_entropy(logits, labels) + self.options.lambda3 * guidance
        self.of_classifier.zero_grad()
        loss.backward()
        self.of_classifier.step()
        self._features.clear()


def make_batches(pictures: Pictures, batch_size: int, workers: int) -> torch.utils.data.DataLoader[Any]:
    """Shuffled whole batches; the worker processes stay from one pass to the next."""
    return torch.utils.data.DataLoader(
        pictures, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
