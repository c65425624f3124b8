"""ALIGN as a careful user would write it in plain PyTorch: an image folder, two networks, two optimisers.

The code has no copy, pass or wait that the algorithm does not need. Images are read by Pillow and augmented and
normalised by torchvision in one worker process per core, and collated to float32 batches; networks are contiguous and
float32, and torch has all cores. Each step updates the masker through the frozen classifier, which sees x⊙M and
x⊙(1−M) in one pass, then the classifier with the new mask. Grad-CAM is a second backward pass from the logit to the
last stage's features (by a hook), with its graph kept for the loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align_dist.config import AugmentationConfig
from align_dist.normalisation import InputNormalisation
from align_dist.options import AlignOptions


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Image files and their labels, as in torchvision's ImageFolder."""

    def __init__(self, files: list[tuple[Path, int]], transform: Any) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        path, label = self.files[index]
        with Image.open(path) as picture:
            return self.transform(picture.convert("RGB")), label


def augmentation(settings: AugmentationConfig, side: int, normalisation: InputNormalisation) -> Any:
    """torchvision's transforms from an image to a normalised tensor (3, side, side)."""
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomResizedCrop(side, settings.crop_scale, settings.crop_ratio),
            v2.RandomHorizontalFlip(settings.flip),
            v2.ColorJitter(*settings.jitter),
            v2.RandomGrayscale(settings.greyscale),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*normalisation),
        ]
    )


class PlainAlign:
    """Guided steps of ALIGN. classifier: ends in pooling and a head. masker: images (B, 3, H, W) to masks (B, H, W)."""

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
        """Update the masker, then the classifier."""
        self._update_masker(images, labels)
        self._update_classifier(images, labels)

    def _update_masker(self, images: Tensor, labels: Tensor) -> None:
        self.classifier.requires_grad_(False).eval()
        mask = self.masker(images)
        masked = torch.cat([images * mask[:, None], images * (1 - mask[:, None])])
        kept_probabilities, removed_probabilities = torch.softmax(self.classifier(masked), 1).chunk(2)
        difference = (kept_probabilities - removed_probabilities).gather(1, labels[:, None])
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
    """A loader of shuffled whole batches with persistent worker processes."""
    return torch.utils.data.DataLoader(
        pictures, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
