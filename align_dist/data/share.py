"""The global batch of a step as known on the host, and host tensors that travel with a rank's images.

Labels, partners, shares of a mixture, weights and noise are pure functions of the global batch's sample keys: every
rank computes its own part, a batch or more ahead, so that no step waits for the host.
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

from align_dist.data.sample_keys import SampleKeys

if TYPE_CHECKING:
    from align_dist.data.views import ViewGeometry

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class GlobalBatch:
    """The images of one step over all ranks, on one rank. sample_keys: (G,) sample keys. labels: (G,) in [0, classes).

    domains, groups: (G,), indices into the manifest's domains and groups. views: the geometry of augmented views.
    """

    sample_keys: SampleKeys
    labels: Ids
    classes: int
    rank: int = 0
    ranks: int = 1
    domains: Ids | None = None
    views: ViewGeometry | None = None
    groups: Ids | None = None

    @property
    def rows(self) -> Ids:
        """Positions of this rank's images in the global batch, (B,): ranks take turns."""
        return np.arange(self.rank, len(self.sample_keys), self.ranks)

    def gathered_positions(self, positions: Ids) -> Ids:
        """Map positions in the global batch to positions in the concatenated shares of all ranks."""
        return positions % self.ranks * (len(self.sample_keys) // self.ranks) + positions // self.ranks


@dataclass(frozen=True)
class Share:
    """One rank's part of a global batch. sample_keys: (B,) sample keys. second: (B,) sample keys of a second image for
    each image, or None. values: host tensors (B, ...) by name, which a method needs with the images. ranks: the world
    size.
    """

    sample_keys: SampleKeys
    second: SampleKeys | None = None
    values: Mapping[str, Tensor] = field(default_factory=dict)
    ranks: int = 1


def pair_within_class(batch: GlobalBatch, seed: int) -> tuple[Ids, NDArray[np.float32]]:
    """π and λ of DRE's mixture x̃_i = λ_i x_i + (1 − λ_i) x_π(i): π permutes each class, λ_i ~ Beta(0.2, 0.2).

    Over the global batch, (G,) each: a pure function of the seed and the sample keys, for any world size.
    Source: Li et al. 2023, https://github.com/tangli-udel/DRE, `dre/mixuploss.py`.
    """
    generator = generator_of(batch, seed)
    partners = np.arange(len(batch.labels))
    for label in np.unique(batch.labels):
        members = np.flatnonzero(batch.labels == label)
        partners[members] = members[torch.randperm(len(members), generator=generator).numpy()]
    return partners, beta_shares(0.2, len(batch.labels), generator)


def generator_of(batch: GlobalBatch, seed: int) -> torch.Generator:
    """A random generator for a global batch, seeded by the seed and the sample keys alone."""
    key = hashlib.sha256(seed.to_bytes(8, "little") + batch.sample_keys.tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)


def beta_shares(alpha: float, count: int, generator: torch.Generator) -> NDArray[np.float32]:
    """Draw `count` shares of a mixture from Beta(alpha, alpha), (count,)."""
    shape = torch.full((count, 2), alpha, dtype=torch.float64)
    gammas = torch._standard_gamma(shape, generator=generator).numpy()
    shares: NDArray[np.float32] = (gammas[:, 0] / gammas.sum(1).clip(min=1e-300)).astype(np.float32)
    return shares


def positions_within(groups: Ids) -> Ids:
    """Position of each image among the images of its group, (G,)."""
    positions = np.empty(len(groups), np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        positions[members] = np.arange(len(members))
    return positions


def inverse_counts(groups: Ids) -> NDArray[np.float32]:
    """1 / n for each image, (G,), with n the number of images of the same group in the global batch."""
    counts = np.bincount(groups)
    return (1 / counts[groups]).astype(np.float32)


def class_weights(batch: GlobalBatch) -> NDArray[np.float32]:
    """G / (n_y C) for each image, (G,): the mean over images with these weights is the sum of class means over C.

    n_y: number of images of the same class in the global batch; C: number of classes. Means over equal shares, averaged
    over the ranks, then equal the mean on one rank.
    """
    counts = np.bincount(batch.labels, minlength=batch.classes)
    return (len(batch.labels) / (counts[batch.labels] * batch.classes)).astype(np.float32)
