"""Images of one image's object on another image's background, and a network's probabilities for these images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align_dist.data.batch import has_object
from align_dist.evaluation.faithfulness import Predict
from align_dist.objectives import exchange_background

Ids = NDArray[np.int64]


class Mixed(NamedTuple):
    """A network's probabilities for N images, and for their objects on K backgrounds of each kind.

    labels: (N,). has_object: (N,), whether the image's mask marks an object. has_background: (N, 2, K), whether the
    partner's does, so that the partner gives its background and not its object too. original: softmax probabilities
    (N, C) of the images. same, random: (N, K, C), on backgrounds of the same class and of a random class. distance:
    (N, K), ‖x' − x‖₂ of the normalised pixels of `random`.
    """

    labels: Tensor
    has_object: Tensor
    has_background: Tensor
    original: Tensor
    same: Tensor
    random: Tensor
    distance: Tensor


def partners(samples: Ids, pool: Ids, labels: Ids, seed: int, count: int) -> Ids:
    """Images that give the backgrounds, (N, 2, count): of the image's class, then of a random class.

    A random class is uniform over the pool's classes, including the image's own; within a class the other images are
    equally likely. In a class without another image, the image itself is the partner. A pure function of the seed, the
    sample id and the pool. samples: (N,), all in the pool. labels: of all images by sample id.
    Source: mixed-same and mixed-rand of Xiao et al. 2021, https://arxiv.org/abs/2006.09994, table 1.
    """
    classes = np.unique(labels[pool])
    members = [np.sort(pool[labels[pool] == label]) for label in classes]
    partners_of_samples = np.empty((len(samples), 2, count), np.int64)
    for row, sample in enumerate(samples):
        generator = np.random.default_rng([seed, int(sample)])
        own_class = int(np.searchsorted(classes, labels[sample]))
        for index in range(count):
            partners_of_samples[row, 0, index] = _another(members[own_class], sample, generator)
            partners_of_samples[row, 1, index] = _another(members[generator.integers(len(classes))], sample, generator)
    return partners_of_samples


def _another(members: Ids, sample: np.int64, generator: np.random.Generator) -> np.int64:
    """A random member other than the sample; the sample itself where there is no other."""
    others = members[members != sample]
    return others[generator.integers(len(others))] if len(others) else sample


def background_of(images: Tensor, masks: Tensor) -> Tensor:
    """Images (B, 3, H, W) without their objects: x ⊙ (1 − M) + c ⊙ M, with c the mean colour of the background.

    masks: (B, H, W) in [0, 1]. Where a mask leaves no background, c is 0, the mean colour of all images.
    """
    background = 1 - masks[:, None]
    colour = (images * background).sum((2, 3), keepdim=True) / background.sum((2, 3), keepdim=True).clamp_min(1e-6)
    return exchange_background(colour.expand_as(images), masks, images)


@torch.no_grad()
def answers(predict: Predict, images: Tensor, masks: Tensor, labels: Tensor) -> Mixed:
    """Probabilities of a network for images and mixed images, on the host.

    images: (N, 1 + 2 K, 3, H, W), each image followed by its partners of the same class and of random classes, in the
    order of `partners`. masks: (N, 1 + 2 K, H, W) in [0, 1]. labels: (N,). An image has an object if its mask reaches
    0.5 (`has_object`).
    """
    count, group_size = images.shape[:2]
    objects, object_masks = images[:, 0], masks[:, 0]
    backgrounds = background_of(images[:, 1:].flatten(0, 1), masks[:, 1:].flatten(0, 1))
    repeated_objects = objects.repeat_interleave(group_size - 1, 0)
    pictures = exchange_background(repeated_objects, object_masks.repeat_interleave(group_size - 1, 0), backgrounds)
    distance = (pictures - repeated_objects).flatten(1).norm(dim=1).view(count, 2, -1)[:, 1]
    marked = has_object(masks.flatten(0, 1)).view(count, group_size).cpu()
    mixed = predict(pictures).double().cpu().view(count, 2, distance.shape[1], -1)
    return Mixed(
        labels.cpu(),
        marked[:, 0],
        marked[:, 1:].view(count, 2, -1),
        predict(objects).double().cpu(),
        mixed[:, 0],
        mixed[:, 1],
        distance.double().cpu(),
    )
