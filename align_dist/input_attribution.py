"""Attributions to the pixels of an image, by the gradient of a logit with respect to the image.

A loss on such a map trains the weights through second-order gradients; in `attribution`, Grad-CAM's channel weights
are constants.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from align_dist.errors import first_line

# Points on the path of integrated gradients.
STEPS = 8

Logits = Callable[[Tensor], Tensor]
# Arguments: the network, images (B, 3, H, W), labels (B,) and whether a loss on the map reaches the weights.
InputAttribution = Callable[[Logits, Tensor, Tensor, bool], Tensor]


def logit_gradient(network: Logits, images: Tensor, labels: Tensor, create_graph: bool = False) -> Tensor:
    """d f_y / d x, with f_y the logit of each image's label. Gradients must be enabled.

    images: (B, 3, H, W). labels: (B,) int64 in [0, C). create_graph: whether the result is differentiable.
    Returns (B, 3, H, W).
    """
    inputs = images if images.requires_grad else images.detach().requires_grad_()
    score = network(inputs).gather(1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, inputs, create_graph=create_graph)
    return gradient


def input_gradient(network: Logits, images: Tensor, labels: Tensor, create_graph: bool) -> Tensor:
    """|d f_y / d x|, the mean over colour channels: (B, H, W), ≥ 0. One forward and one backward pass.

    Source: Simonyan et al. 2014, https://arxiv.org/abs/1312.6034, section 3, with the maximum over channels. A loss on
    the maximum would train only the leading channel of each pixel, and jump where two channels are equal.
    """
    return logit_gradient(network, images, labels, create_graph).abs().mean(1)


def integrated_gradients(network: Logits, images: Tensor, labels: Tensor, create_graph: bool) -> Tensor:
    """x times the mean of d f_y / d x on the straight line from 0 to x, summed over colours: (B, H, W), signed.

    Source: Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, equations 1 and 3, at the midpoints of `STEPS`
    equal steps. 0 in normalised images is the mean colour. A map's sum is close to f_y(x) − f_y(0). `STEPS` forward
    and backward passes.
    """
    points = [(step + 0.5) / STEPS * images for step in range(STEPS)]
    gradients = [logit_gradient(network, point, labels, create_graph) for point in points]
    return (images * torch.stack(gradients).mean(0)).sum(1)


def check_second_order(network: nn.Module) -> None:
    """Raise ValueError for a network with a layer that torch cannot differentiate twice, such as Hardsigmoid. The
    check runs on torch's meta device and computes nothing.
    """
    traced = copy.deepcopy(network).to("meta").eval()
    images, labels = torch.empty(2, 3, 320, 320, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")
    try:
        input_gradient(traced, images, labels, True).sum().backward()
    except RuntimeError as error:
        raise ValueError(f"{type(network).__name__}: {first_line(error)}") from None


# Keys are values of `classifier.attribution`, whose remaining value is Grad-CAM.
INPUT_ATTRIBUTIONS: dict[str, InputAttribution] = {
    "input_gradient": input_gradient,
    "integrated_gradients": integrated_gradients,
}
