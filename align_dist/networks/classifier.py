"""The classifier: logits, and Grad-CAM of a class or another attribution map, in one forward pass.

Attributions are computed inside forward, because a wrapped network (DDP, DeepSpeed) must use its parameters only there.
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
from align_dist.places import Places, pool_to_cells

Inspect = Callable[[Tensor, nn.Module], Any]


class ClassifierOutput(NamedTuple):
    """logits: (B, C). cam: (B, h, w), signed Grad-CAM or another attribution map, at the resolution of the last feature
    map. The cells lie at the classifier's `places`.
    """

    logits: Tensor
    cam: Tensor


class Classifier(nn.Module):
    """A network that ends in pooling and a head, with attribution maps.

    `classifier(images)` returns logits (B, C). `classifier(images, explain=labels)` returns `ClassifierOutput`, with
    the map of each image's label. `classifier(images, inspect=look)` returns `look(features, head)`, for the head's
    input features (B, K) and the head. The closed form and `inspect` need global average pooling followed by one linear
    layer, which is checked at construction; for other heads (`closed_form=False`) maps come from autograd.

    The map of the closed form ignores the head's dropout, and equals Grad-CAM by autograd without dropout and in
    evaluation mode. In training mode a dropped channel would leave a random hole. A map by autograd includes dropout.

    places: positions of Grad-CAM's cells in the image; None for cells that divide the image evenly, as for every other
    attribution.

    attribution: replaces Grad-CAM, averaged over the pixels of each of Grad-CAM's cells. The attribution is computed in
    evaluation mode, with BatchNorm's statistics from before the forward pass, so that an image's map does not depend on
    its batch; and in float32, because in bfloat16 up to two fifths of a loss's gradient were rounding errors. The
    attribution adds its own forward and backward passes, and in training a loss is differentiated through all of them.
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
        # Names, because a second reference to a module would store its weights twice.
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

    def _attributed(self, images: Tensor, labels: Tensor, attribution: InputAttribution) -> ClassifierOutput:
        """Run the ordinary forward pass, and compute the attribution with gradients enabled."""
        # Copies, because the ordinary forward pass updates statistics in place, and backward needs the old values.
        statistics = {name: value.clone() for name, value in self.network.named_buffers()}
        logits, features = self._logits_and_features(images)
        with_gradients, network = torch.is_grad_enabled(), partial(functional_call, self.network, statistics)
        with torch.enable_grad(), in_evaluation_mode(self.network), in_full_precision(logits):
            maps = pool_to_cells(attribution(network, images, labels, with_gradients), size_of(features))
        return ClassifierOutput(logits, maps if with_gradients else maps.detach())

    def _explained(self, images: Tensor, labels: Tensor) -> ClassifierOutput:
        if not self.closed_form:
            return self._explain_by_autograd(images, labels)
        logits, features = self._logits_and_features(images)
        head = self.network.get_parameter(f"{self._linear}.weight")
        return ClassifierOutput(logits, linear_head_cam(features, head, labels))

    def _inspect(self, images: Tensor, inspect: Inspect) -> Any:
        if not self.closed_form:
            raise ValueError(f"{type(self.network).__name__} does not end in one linear layer with features to inspect")
        _, features = self._logits_and_features(images)
        return inspect(features.mean(dim=(2, 3)), self.network.get_submodule(self._linear))

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode; frozen BatchNorm (DomainBed's choice for pretrained networks) stays in evaluation mode."""
        super().train(mode)
        if self.freeze_batchnorm:
            set_batchnorm_evaluation(self)
        return self

    def _logits_and_features(self, images: Tensor, leaf: bool = False) -> tuple[Tensor, Tensor]:
        """Run one forward pass; the features are the input of the last pooling. leaf: make features without gradients a
        leaf with gradients.
        """
        pooling_inputs: list[Tensor] = []

        def record(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            is_leaf = leaf and not inputs[0].requires_grad
            pooling_inputs.append(inputs[0].detach().requires_grad_() if is_leaf else inputs[0])
            return (pooling_inputs[-1],)

        handle = self.network.get_submodule(self._pooling).register_forward_pre_hook(record)
        try:
            logits = self.network(images)
        finally:
            handle.remove()
        return logits, pooling_inputs[-1]

    def _explain_by_autograd(self, images: Tensor, labels: Tensor) -> ClassifierOutput:
        """Run one forward pass with gradients enabled; results are detached where the caller disabled gradients."""
        with_gradients = torch.is_grad_enabled()
        with torch.enable_grad():
            logits, features = self._logits_and_features(images, leaf=True)
            cam = autograd_cam(logits, features, labels)
        return ClassifierOutput(logits, cam) if with_gradients else ClassifierOutput(logits.detach(), cam.detach())

    def export(self) -> dict[str, Tensor]:
        """The plain network's state dict, which `torchvision.models.resnet50(num_classes=C)` loads directly."""
        return copy.deepcopy(self.network.state_dict())


def _pools_to_one(pooling: nn.Module) -> bool:
    return pooling.output_size in (1, (1, 1))


def set_batchnorm_evaluation(module: nn.Module) -> None:
    """Set every BatchNorm inside `module` to evaluation mode: running statistics are used and not updated."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Softmax probabilities (B, C)."""
    return torch.softmax(network(images).float(), dim=1)
