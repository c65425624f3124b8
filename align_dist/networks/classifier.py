"""The classifier: logits, and Grad-CAM of a class, or another attribution, in the same forward.

Attributions are computed inside forward because a wrapped network (DDP, DeepSpeed) must see every use of its
parameters there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from align_dist.attribution import autograd_cam, linear_head_cam, size_of
from align_dist.input_attribution import InputAttribution
from align_dist.modes import in_evaluation_mode, in_full_precision
from align_dist.networks.receptive_field import last_pooling
from align_dist.places import Places, in_cells

Inspect = Callable[[Tensor, nn.Module], Any]


class Explained(NamedTuple):
    """logits: (B, C). cam: (B, h, w), signed Grad-CAM, or the attribution in its place, at the resolution of the last
    feature map. Its cells lie at the classifier's `places`.
    """

    logits: Tensor
    cam: Tensor


class Classifier(nn.Module):
    """Any network that ends in pooling and a head, with its explanation.

    The map of the closed form is that of the head as it is used, without its dropout: equal to Grad-CAM by autograd
    where there is none, and in evaluation mode. In training mode a dropped channel would show a hole that is chance.
    A map by autograd is of the pass itself, its dropout included.

    `classifier(images)` returns logits (B, C); `classifier(images, explain=labels)` returns `Explained`, the
    map being of each image's own `labels` entry; `classifier(images, inspect=look)` returns what `look(features, head)`
    makes of the features (B, K) that the head takes and of the head itself. The closed form and `inspect` need global
    average pooling followed by one linear layer, which is checked for at construction; maps of other heads
    (`closed_form=False`) go through autograd.

    places: where in an image Grad-CAM's cells look; None for cells that divide it evenly, as those of another
    attribution do.

    attribution: takes Grad-CAM's place, averaged over the pixels of each of Grad-CAM's cells. The attribution is that
    of the network in evaluation mode, with BatchNorm's statistics from before the forward, so that an image's map does
    not depend on its batch; and in float32, for in bfloat16 up to two fifths of a loss's gradient were rounding. Every
    forward and backward of the attribution comes on top of the ordinary forward; in training their graphs are kept,
    and the backward of a loss goes through them all.
    """

    def __init__(
        self,
        network: nn.Module,
        freeze_batchnorm: bool = False,
        places: Places | None = None,
        attribution: InputAttribution | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.freeze_batchnorm = freeze_batchnorm
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        # Names, not modules: a second reference would store the head's weights twice.
        self._pooling, self._linear = last_pooling(network), linear[-1]
        self.closed_form = len(linear) == 1 and _pools_to_one(network.get_submodule(self._pooling))
        self.places, self.attribution = places if attribution is None else None, attribution
        self.train()

    def forward(self, images: Tensor, explain: Tensor | None = None, inspect: Inspect | None = None) -> Any:
        if inspect is not None:
            return self._inspect(images, inspect)
        if explain is None:
            return self.network(images)
        if self.attribution is not None:
            return self._attributed(images, explain, self.attribution)
        return self._explained(images, explain)

    def _attributed(self, images: Tensor, labels: Tensor, attribution: InputAttribution) -> Explained:
        """The ordinary forward, and the attribution with gradients on, whatever surrounds both."""
        # Copies, for the ordinary forward moves statistics in place, and backward needs them as they were.
        statistics = {name: value.clone() for name, value in self.network.named_buffers()}
        logits, features = self._logits_and_features(images)
        wanted, network = torch.is_grad_enabled(), partial(functional_call, self.network, statistics)
        with torch.enable_grad(), in_evaluation_mode(self.network), in_full_precision(logits):
            maps = in_cells(attribution(network, images, labels, wanted), size_of(features))
        return Explained(logits, maps if wanted else maps.detach())

    def _explained(self, images: Tensor, labels: Tensor) -> Explained:
        if not self.closed_form:
            return self._explain_by_autograd(images, labels)
        logits, features = self._logits_and_features(images)
        head = self.network.get_parameter(f"{self._linear}.weight")
        return Explained(logits, linear_head_cam(features, head, labels))

    def _inspect(self, images: Tensor, inspect: Inspect) -> Any:
        if not self.closed_form:
            raise ValueError(f"{type(self.network).__name__} has no one linear head, whose features could be looked at")
        _, features = self._logits_and_features(images)
        return inspect(features.mean(dim=(2, 3)), self.network.get_submodule(self._linear))

    def train(self, mode: bool = True) -> Classifier:
        """Training mode; frozen BatchNorm (DomainBed's choice for pretrained networks) stays in evaluation."""
        super().train(mode)
        if self.freeze_batchnorm:
            set_batchnorm_evaluation(self)
        return self

    def _logits_and_features(self, images: Tensor, leaf: bool = False) -> tuple[Tensor, Tensor]:
        """One forward; the features are what the last pooling takes. leaf: where nothing before has gradients, they
        are a leaf that has.
        """
        seen: list[Tensor] = []

        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            fixed = leaf and not inputs[0].requires_grad
            seen.append(inputs[0].detach().requires_grad_() if fixed else inputs[0])
            return (seen[-1],)

        handle = self.network.get_submodule(self._pooling).register_forward_pre_hook(keep)
        try:
            logits = self.network(images)
        finally:
            handle.remove()
        return logits, seen[-1]

    def _explain_by_autograd(self, images: Tensor, labels: Tensor) -> Explained:
        """One forward with gradients on, whatever surrounds it; detached where nobody asked for gradients."""
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            logits, features = self._logits_and_features(images, leaf=True)
            cam = autograd_cam(logits, features, labels)
        return Explained(logits, cam) if wanted else Explained(logits.detach(), cam.detach())

    def export(self) -> dict[str, Tensor]:
        """The plain network's state dict: `torchvision.models.resnet50(num_classes=C)` loads it as it is."""
        return copy.deepcopy(self.network.state_dict())


def _pools_to_one(pooling: nn.Module) -> bool:
    return pooling.output_size in (1, (1, 1))


def set_batchnorm_evaluation(module: nn.Module) -> None:
    """Puts every BatchNorm below `module` into evaluation mode: running statistics used, not moved."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Softmax probabilities (B, C)."""
    return torch.softmax(network(images).float(), dim=1)
