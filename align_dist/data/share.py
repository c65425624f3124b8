"""What the host knows of a step before a picture is read, and what it makes to travel with the pictures.

Labels, partners, shares of a mixture, weights and noise are pure functions of the global batch's draws: every rank
makes its own part of them, a batch or more ahead, so that no step waits for the host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align_dist.data.draws import Draws

if TYPE_CHECKING:
    from align_dist.data.views import Views

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class GlobalBatch:
    """The images of one step over all ranks, seen from one of them. draws: (G,). labels: (G,) in [0, classes).

    domains, groups: (G,), as the benchmark numbers them. views: the geometry of the pictures.
    """

    draws: Draws
    labels: Ids
    classes: int
    rank: int = 0
    ranks: int = 1
    domains: Ids | None = None
    views: Views | None = None
    groups: Ids | None = None

    @property
    def rows(self) -> Ids:
        """The places of this rank's images, (B,): every rank takes its turn."""
        return np.arange(self.rank, len(self.draws), self.ranks)

    def gathered(self, places: Ids) -> Ids:
        """Where images at `places` of the global batch stand when the ranks' shares follow one another."""
        return places % self.ranks * (len(self.draws) // self.ranks) + places // self.ranks


@dataclass(frozen=True)
class Share:
    """One rank's part of a global batch. draws: (B,). second: (B,) draws of one more picture for each image, or None.

    values: host tensors (B, ...) by name, made for a method, that stay with their images. ranks: of the global batch.
    """

    draws: Draws
    second: Draws | None = None
    values: Mapping[str, Tensor] = field(default_factory=dict)
    ranks: int = 1


def pair_within_class(batch: GlobalBatch, seed: int) -> tuple[Ids, NDArray[np.float32]]:
    """π and λ of DRE's mixture x̃_i = λ_i x_i + (1 − λ_i) x_π(i): π permutes each class, λ_i ~ Beta(0.2, 0.2).

    Over the whole global batch, (G,) each, whatever the number of ranks: a pure function of the seed and the draws.
    Source: Li et al. 2023, https://github.com/tangli-udel/DRE, `dre/mixuploss.py`.
    """
    generator = generator_of(batch, seed)
    partners = np.arange(len(batch.labels))
    for label in np.unique(batch.labels):
        members = np.flatnonzero(batch.labels == label)
        partners[members] = members[torch.randperm(len(members), generator=generator).numpy()]
    return partners, beta(0.2, len(batch.labels), generator)


def generator_of(batch: GlobalBatch, seed: int) -> torch.Generator:
    """The source of what is drawn for a global batch: a pure function of the seed and the draws."""
    key = hashlib.sha256(seed.to_bytes(8, "little") + batch.draws.tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)


def beta(alpha: float, count: int, generator: torch.Generator) -> NDArray[np.float32]:
    """`count` shares of a mixture from Beta(alpha, alpha)."""
    shape = torch.full((count, 2), alpha, dtype=torch.float64)
    gammas = torch._standard_gamma(shape, generator=generator).numpy()
    shares: NDArray[np.float32] = (gammas[:, 0] / gammas.sum(1).clip(min=1e-300)).astype(np.float32)
    return shares


def places_within(groups: Ids) -> Ids:
    """The place of each image among the images of its own group, (G,)."""
    places = np.empty(len(groups), np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        places[members] = np.arange(len(members))
    return places


def inverse_counts(groups: Ids) -> NDArray[np.float32]:
    """1 / n for each image, (G,), n the images of the same group in the global batch."""
    counts = np.bincount(groups)
    return (1 / counts[groups]).astype(np.float32)


def class_weights(batch: GlobalBatch) -> NDArray[np.float32]:
    """G / (n_y C) for each image, (G,): a mean over images so weighted is the sum of the class means over C.

    n_y: images of the same class in the global batch; C: all classes. Means over shares of equal size, averaged over
    the ranks, then give what one rank gives.
    """
    counts = np.bincount(batch.labels, minlength=batch.classes)
    return (len(batch.labels) / (counts[batch.labels] * batch.classes)).astype(np.float32)
