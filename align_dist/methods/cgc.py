"""CGC: consistent explanations by contrastive learning (Pillai et al. 2022, https://arxiv.org/abs/2110.00527)."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from align_dist import objectives
from align_dist.attribution import size_of, warp_maps
from align_dist.data.batch import Batch
from align_dist.data.sample_keys import second_view_keys
from align_dist.data.share import GlobalBatch, Share
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.methods.versions import forward_versions
from align_dist.options.general import CGCOptions
from align_dist.places import cells_transform


class CGC(Method[CGCOptions]):
    """L = CE(f(x), y) + CE(f(x'), y) + λ InfoNCE(Φ(x'), T Φ(x)), x' a second view, T the transform from x to x'.

    Differences to the authors' code (https://github.com/UCDvision/CGC, `models/resnet_multigpu_cgc.py`): the code takes
    gradient × activation of the predicted class in each cell, upsampled to 224, with second-order gradients to the
    head. Here Φ is rectified Grad-CAM of the true class at its own resolution, which is the same map for pooling and
    one linear layer, with constant channel weights. In the code x' is a crop of x, and a third view has a
    cross-entropy, so that the same λ there has two thirds of the weight that it has here. Here both views are crops of
    one image, and a positive pair is compared where both overlap. Negatives come from the global batch, in the code
    from one device.
    """

    options_type = CGCOptions
    takes_whole_batches = True

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classifier_loss}

    def share(self, batch: GlobalBatch, step: int) -> Share:
        assert batch.views is not None
        share = super().share(batch, step)
        second = second_view_keys(share.sample_keys)
        values = {
            "geometry": torch.from_numpy(batch.views.between(share.sample_keys, second)),
            "place": torch.from_numpy(batch.gathered_positions(batch.rows)),
        }
        return replace(share, second=second, values=values)

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        assert batch.second is not None, "the share was made without second views"
        outputs = forward_versions(
            classifier, {"first": batch.images, "second": batch.second}, batch.labels, explain=True
        )
        first, second = (view.map.clamp_min(0) for view in outputs.values())
        geometry = cells_transform(batch.values["geometry"], size_of(first), size_of(batch.images), self.places)
        positives = similarity(first, second, geometry.to(first.dtype))
        directions = F.normalize(second.flatten(1))
        similarities = directions @ self.gather_over_ranks(directions, batch).T
        contrast = info_nce(positives, similarities, batch.values["place"], self.options.temperature)
        entropies = [objectives.classification(view.logits, batch.labels) for view in outputs.values()]
        return {"classification": (1.0, entropies[0] + entropies[1]), "contrast": (self.options.contrast, contrast)}


def similarity(first: Tensor, second: Tensor, geometry: Tensor) -> Tensor:
    """Cosine similarity (B,) of the first view's map in the second view's frame and the second view's map, both
    (B, h, w), over the overlap of the views. geometry: `places.cells_transform`.
    """
    valid = warp_maps(torch.ones_like(second), geometry)
    carried, other = warp_maps(first, geometry), second * valid
    return (F.normalize(carried.flatten(1)) * F.normalize(other.flatten(1))).sum(1)


def info_nce(positives: Tensor, similarities: Tensor, places: Tensor, temperature: float) -> Tensor:
    """−log of the positive's share in the sum of e^(s / t) over the positive and the negatives, the mean over images.

    positives: (B,). similarities: (B, G) to all images. places: (B,), each image's own column, which is no negative.
    """
    own = places[:, None] == torch.arange(similarities.shape[1], device=similarities.device)
    return F.cross_entropy(torch.where(own, positives[:, None], similarities) / temperature, places)
