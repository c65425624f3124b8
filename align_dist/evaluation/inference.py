"""Plain inference: probabilities of a classifier over samples, each image once, unaugmented."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from align_dist.data.draws import unaugmented
from align_dist.data.loader import Loader
from align_dist.evaluation.accuracy import accuracy
from align_dist.networks.classifier import predict
from align_dist.parallel.engine import Engine, frozen

Ids = NDArray[np.int64]


def probabilities_on(
    classifier: Engine, loader: Loader, samples: Ids, batch_size: int
) -> tuple[NDArray[np.float64], Ids]:
    """Softmax probabilities (N, C) and labels (N,), in the order of `samples`."""
    found, labels = [], []
    with torch.no_grad(), frozen(classifier) as network:
        for batch in loader.all_of(unaugmented(samples), batch_size):
            found.append(predict(network, batch.images).double().cpu())
            labels.append(batch.labels.cpu())
    return torch.cat(found).numpy(), torch.cat(labels).numpy()


def accuracy_on(classifier: Engine, loader: Loader, samples: Ids, batch_size: int) -> float:
    """Top-1 accuracy, in [0, 1]."""
    return accuracy(*probabilities_on(classifier, loader, samples, batch_size))
