"""Attributions to the pixels of an image, by the gradient of a logit with respect to the image.

A loss on such a map trains the weights through the gradient itself, second order; Grad-CAM's channel weights, in
`attribution`, are constants.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from align_dist.errors import first_line

# Of the path of integrated gradients.
STEPS = 8

Logits = Callable[[Tensor], Tensor]
# Of a network's logits, images (B, 3, H, W), labels (B,) and whether a loss on the map shall reach the weights.
InputAttribution = Callable[[Logits, Tensor, Tensor, bool], Tensor]


def logit_gradient(network: Logits, images: Tensor, labels: Tensor, create_graph: bool = False) -> Tensor:
    """d f_y / d x, f_y the logit of each image's own label; called with gradients enabled.

    images: (B, 3, H, W). labels: (B,) int64 in [0, C). create_graph: whether gradients flow on through the result.
    Returns (B, 3, H, W).
    """
    seen = images if images.requires_grad else images.detach().requires_grad_()
    score = network(seen).gather(1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, seen, create_graph=create_graph)
    return gradient


def input_gradient(network: Logits, images: Tensor, labels: Tensor, create_graph: bool) -> Tensor:
    """|d f_y / d x|, the mean over colours: (B, H, W), ≥ 0. One forward and one backward.

    Source: Simonyan et al. 2014, https://arxiv.org/abs/1312.6034, section 3, who take the maximum over colours. A loss
    on the maximum would train one colour of each pixel, whichever leads, and jump to another where two are equal.
    """
    return logit_gradient(network, images, labels, create_graph).abs().mean(1)


def integrated_gradients(network: Logits, images: Tensor, labels: Tensor, create_graph: bool) -> Tensor:
    """x times the mean of d f_y / d x on the straight way from 0 to x, the sum over colours: (B, H, W), signed.

    Source: Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, equations 1 and 3, at the middle points of
    `STEPS` equal steps. 0 in normalised images is the mean colour. A map's sum is close to f_y(x) − f_y(0). `STEPS`
    forwards and as many backwards.
    """
    points = [(step + 0.5) / STEPS * images for step in range(STEPS)]
    gradients = [logit_gradient(network, point, labels, create_graph) for point in points]
    return (images * torch.stack(gradients).mean(0)).sum(1)


def check_second_order(network: nn.Module) -> None:
    """Raises ValueError for a network with a layer whose gradient torch cannot differentiate again, such as
    Hardsigmoid. Traced without computing anything.
    """
    traced = copy.deepcopy(network).to("meta").eval()
    images, labels = torch.empty(2, 3, 320, 320, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")
    try:
        input_gradient(traced, images, labels, True).sum().backward()
    except RuntimeError as error:
        raise ValueError(f"{type(network).__name__}: {first_line(error)}") from None


# By the names of the setting `classifier.attribution`, whose other value is Grad-CAM.
INPUT_ATTRIBUTIONS: dict[str, InputAttribution] = {
    "input_gradient": input_gradient,
    "integrated_gradients": integrated_gradients,
}
