"""Pictures of one image's object before another image's background, and what a network says of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align_dist.evaluation.faithfulness import Predict
from align_dist.evaluation.localisation import OBJECT_THRESHOLD
from align_dist.objectives import exchanged

Ids = NDArray[np.int64]


class Mixed(NamedTuple):
    """What a network says of N images and of the same objects before others' backgrounds, K of each kind.

    labels: (N,). has_object: (N,), whether an image's mask marks anything. original: softmax probabilities (N, C) of
    the images. same, random: (N, K, C), before a background of the same class and of a random one. distance: (N, K),
    ‖x' − x‖₂ of the normalised pixels of `random`.
    """

    labels: Tensor
    has_object: Tensor
    original: Tensor
    same: Tensor
    random: Tensor
    distance: Tensor


def partners(samples: Ids, pool: Ids, labels: Ids, seed: int, count: int) -> Ids:
    """Whose backgrounds each image is shown with, (N, 2, count): of its own class, then of a random class.

    A random class is any class of the pool, its own among them, each as likely; within a class any other image is.
    Where a class has no other image, the image itself stands there. A pure function of the seed, the image's id and the
    pool: no other image, rank or generator matters. samples: (N,), all in the pool. labels: of every image by id.
    Source: mixed-same and mixed-rand of Xiao et al. 2021, https://arxiv.org/abs/2006.09994, table 1.
    """
    classes = np.unique(labels[pool])
    members = [np.sort(pool[labels[pool] == label]) for label in classes]
    drawn = np.empty((len(samples), 2, count), np.int64)
    for row, sample in enumerate(samples):
        generator = np.random.default_rng([seed, int(sample)])
        own = int(np.searchsorted(classes, labels[sample]))
        for place in range(count):
            drawn[row, 0, place] = _another(members[own], sample, generator)
            drawn[row, 1, place] = _another(members[generator.integers(len(classes))], sample, generator)
    return drawn


def _another(members: Ids, sample: np.int64, generator: np.random.Generator) -> np.int64:
    """One of a class's images other than the sample; the sample where there is none."""
    others = members[members != sample]
    return others[generator.integers(len(others))] if len(others) else sample


def background_of(images: Tensor, masks: Tensor) -> Tensor:
    """Images (B, 3, H, W) without their objects: x ⊙ (1 − M) + c ⊙ M, c the mean colour of the image's background.

    masks: (B, H, W) in [0, 1]. Where a mask leaves no background, c is 0, the mean colour of all pictures.
    """
    rest = 1 - masks[:, None]
    colour = (images * rest).sum((2, 3), keepdim=True) / rest.sum((2, 3), keepdim=True).clamp_min(1e-6)
    return exchanged(colour.expand_as(images), masks, images)


@torch.no_grad()
def answers(predict: Predict, images: Tensor, masks: Tensor, labels: Tensor) -> Mixed:
    """What a network says of images and mixed pictures, on the host.

    images: (N, 1 + 2 K, 3, H, W), each image followed by those of its own class and of random ones, as `partners` has
    them. masks: (N, 1 + 2 K, H, W) in [0, 1]. labels: (N,). An image has an object where its mask reaches 0.5.
    """
    count, group_size = images.shape[:2]
    objects, object_masks = images[:, 0], masks[:, 0]
    backgrounds = background_of(images[:, 1:].flatten(0, 1), masks[:, 1:].flatten(0, 1))
    repeated = objects.repeat_interleave(group_size - 1, 0)
    pictures = exchanged(repeated, object_masks.repeat_interleave(group_size - 1, 0), backgrounds)
    distance = (pictures - repeated).flatten(1).norm(dim=1).view(count, 2, -1)[:, 1]
    mixed = predict(pictures).double().cpu().view(count, 2, distance.shape[1], -1)
    return Mixed(
        labels.cpu(),
        (object_masks.flatten(1).amax(1) >= OBJECT_THRESHOLD).cpu(),
        predict(objects).double().cpu(),
        mixed[:, 0],
        mixed[:, 1],
        distance.double().cpu(),
    )
