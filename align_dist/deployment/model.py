"""A trained run as something to use: pictures in, classes and explanations out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from align_dist.assembly import choose_device, networks_of
from align_dist.attribution import saliency, size_of
from align_dist.config import RunConfig
from align_dist.data.manifest import manifest_path, read_manifest
from align_dist.data.pixels import decode_image, image_pixels, reason_of
from align_dist.errors import DataError
from align_dist.files import read_json
from align_dist.networks.classifier import Classifier
from align_dist.normalisation import input_normalisation
from align_dist.options.clock import Clock
from align_dist.runs.checkpoint import refusing_other_networks
from align_dist.runs.folder import RunFolder
from align_dist.runs.selection import load_selected

# A path, or a picture that Pillow has opened.
Picture = str | Path | Image.Image
# When an optimiser starts is nothing to networks that learn no more.
NO_TIME = Clock(length=1, warmup=0, epoch=1.0)


class Explanation(NamedTuple):
    """A model's probabilities and explanations of B pictures.

    probabilities: (B, C), softmax. labels: (B,), the classes that are explained. attribution: (B, S, S) in [0, 1], the
    rectified Grad-CAM of that class. mask: (B, S, S) in [0, 1], of a method that learns masks; None of others. images:
    (B, 3, S, S) in [0, 1], the pictures as the model takes them. On the CPU.
    """

    probabilities: Tensor
    labels: Tensor
    attribution: Tensor
    mask: Tensor | None
    images: Tensor


@dataclass(frozen=True)
class Model:
    """A trained classifier, and the masker of a method that has one, in evaluation mode.

    size: the side S of the square that pictures are resized to, whole. max_side: to which larger pictures are reduced
    before, as the benchmark's beton has them. mean, std: (3,), what pixels in [0, 1] are normalised with.
    """

    config: RunConfig
    classes: tuple[str, ...]
    classifier: Classifier
    masker: nn.Module | None
    device: torch.device
    mean: Tensor
    std: Tensor

    @property
    def size(self) -> int:
        return self.config.data.image_size

    @property
    def max_side(self) -> int:
        return self.config.benchmark.max_side

    def predict(self, pictures: Sequence[Picture] | Tensor) -> Tensor:
        """Softmax probabilities (B, C) of pictures, or of pixels (B, 3, S, S) in [0, 1]. Raises DataError."""
        images = self.normalise(self.pixels(pictures))
        with torch.no_grad():
            return torch.softmax(self.classifier(images).float(), dim=1).cpu()

    def explain(self, pictures: Sequence[Picture] | Tensor, labels: Tensor | None = None) -> Explanation:
        """Classes, attributions and masks of pictures, or of pixels (B, 3, S, S) in [0, 1].

        labels: (B,), the classes to explain; the likeliest ones unless given. Raises DataError for what is no picture.
        """
        pixels = self.pixels(pictures)
        images = self.normalise(pixels)
        with torch.no_grad():
            probabilities = torch.softmax(self.classifier(images).float(), dim=1)
            classes = probabilities.argmax(1) if labels is None else labels.to(self.device)
            cam = self.classifier(images, explain=classes).cam
            attribution = saliency(cam, size_of(images), self.classifier.places)
            mask = None if self.masker is None else self.masker(images).float().cpu()
        return Explanation(probabilities.cpu(), classes.cpu(), attribution.cpu(), mask, pixels)

    def pixels(self, pictures: Sequence[Picture] | Tensor) -> Tensor:
        """Pictures as (B, 3, S, S) in [0, 1], read as evaluation reads them. Raises DataError for what is none."""
        if isinstance(pictures, Tensor):
            return pictures
        return torch.stack([_pixels_of(picture, self.max_side, self.size) for picture in pictures])

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in [0, 1] as the networks take them, on their device."""
        mean, std = (values.view(1, 3, 1, 1).to(self.device) for values in (self.mean, self.std))
        return (pixels.to(self.device) - mean) / std


def load(run: str | Path, selection: str = "validation", device: str = "auto") -> Model:
    """The model that a run has trained. run: its folder. selection: which of its weights.

    Raises CheckpointError for a folder without such weights or with another network's, DataError where its classes are
    not known.
    """
    folder = RunFolder(Path(run))
    config = folder.config()
    weights = load_selected(folder.selected, selection)["networks"]
    classes, target = _classes_of(folder, config), choose_device(device)
    networks = {name: network.build() for name, network in networks_of(config, len(classes), NO_TIME).items()}
    for name, network in networks.items():
        with refusing_other_networks(folder.selected, name):
            network.load_state_dict(weights[name])
        network.eval().requires_grad_(False).to(target)
    classifier = networks["classifier"]
    assert isinstance(classifier, Classifier)
    mean, std = (torch.tensor(values) for values in input_normalisation(config.classifier.backbone))
    return Model(config, classes, classifier, networks.get("masker"), target, mean, std)


def _classes_of(folder: RunFolder, config: RunConfig) -> tuple[str, ...]:
    """The classes in the run's folder; of an older run, those of its beton's manifest."""
    classes = read_json(folder.classes).get("classes")
    return tuple(classes) if isinstance(classes, list) else read_manifest(manifest_path(config.benchmark.beton)).classes


def _pixels_of(picture: Picture, max_side: int, size: int) -> Tensor:
    try:
        if isinstance(picture, Image.Image):
            pixels = image_pixels(picture, max_side)
        else:
            pixels = decode_image(Path(picture).read_bytes(), max_side)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        name = "a picture" if isinstance(picture, Image.Image) else str(picture)
        raise DataError(f"{name}: not a readable picture ({reason_of(error)}); repair or remove it") from None
    # The filter of `data.kernels.resize_box`, which betons are read with.
    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).movedim(-1, 0).float() / 255
