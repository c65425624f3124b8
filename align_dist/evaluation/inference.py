"""Inference: probabilities of a classifier on samples, each image once, unaugmented."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from align_dist.data.batch import Batch
from align_dist.data.loader import Loader
from align_dist.data.sample_keys import unaugmented
from align_dist.evaluation.accuracy import accuracy
from align_dist.networks.classifier import predict
from align_dist.parallel.engine import Engine, frozen
from align_dist.parallel.group import Group

Ids = NDArray[np.int64]
T = TypeVar("T")


def over_batches(loader: Loader, samples: Ids, batch_size: int, group: Group, work: Callable[[Batch], T]) -> list[T]:
    """Results of `work` on each batch of unaugmented samples, in order, on every rank. Collective.

    Ranks take whole batches in turn, so that the batches and their results are the same for any world size; no image
    is evaluated twice. work: returns tensors or plain values on the host.
    """
    sample_keys = unaugmented(samples)
    batches = [sample_keys[start : start + batch_size] for start in range(0, len(sample_keys), batch_size)]
    own_batches = batches[group.rank :: group.world_size]
    results = [work(batch) for batch in loader.batches(lambda i: own_batches[i], len(own_batches))]
    shares = group.gather(results)
    return [shares[index % group.world_size][index // group.world_size] for index in range(len(batches))]


def probabilities_on(
    classifier: Engine, loader: Loader, samples: Ids, batch_size: int, group: Group
) -> tuple[NDArray[np.float64], Ids]:
    """Softmax probabilities (N, C) and labels (N,), in the order of `samples`. Collective."""
    with torch.no_grad(), frozen(classifier) as network:

        def work(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            return predict(network, batch.images).double().cpu(), batch.labels.cpu()

        outputs = over_batches(loader, samples, batch_size, group, work)
    probabilities, labels = zip(*outputs, strict=True)
    return torch.cat(probabilities).numpy(), torch.cat(labels).numpy()


def accuracy_on(classifier: Engine, loader: Loader, samples: Ids, batch_size: int, group: Group) -> float:
    """Top-1 accuracy, in [0, 1]. Collective."""
    return accuracy(*probabilities_on(classifier, loader, samples, batch_size, group))
