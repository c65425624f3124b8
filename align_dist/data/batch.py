"""What a step is taken on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from align_dist.data.draws import Draws


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch, on the device.

    images: (B, 3, H, W) float32, normalised; 0 is the mean colour. labels: (B,) int64. domains: (B,) int64.
    samples: (B,) int64 ids. draws: the draws it came from. masks: (B, H, W) float32 in [0, 1], or None
    where the benchmark has no true masks or they were not asked for. second, values: as the share asked for them,
    (B, 3, H, W) and (B, ...) each. ranks: that the global batch is spread over. whole: whether these are all of the
    rank's images. groups: (B,) int64, class and spurious attribute, or None for a benchmark without.
    """

    images: Tensor
    labels: Tensor
    domains: Tensor
    samples: Tensor
    draws: Draws
    masks: Tensor | None = None
    second: Tensor | None = None
    values: Mapping[str, Tensor] = field(default_factory=dict)
    ranks: int = 1
    whole: bool = True
    groups: Tensor | None = None

    def parts(self, count: int) -> list[Batch]:
        """The batch in `count` pieces of equal size. Raises ValueError where that cannot be.

        In strides: images are in the order of their domains, and each piece is to see them all.
        """
        if count == 1:
            return [self]
        if len(self.images) % count:
            raise ValueError(f"a batch of {len(self.images)} has no {count} equal parts")
        return [self._piece(slice(start, None, count)) for start in range(count)]

    def _piece(self, rows: slice) -> Batch:
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            domains=self.domains[rows],
            samples=self.samples[rows],
            draws=self.draws[rows],
            masks=None if self.masks is None else self.masks[rows],
            second=None if self.second is None else self.second[rows],
            values={name: value[rows] for name, value in self.values.items()},
            groups=None if self.groups is None else self.groups[rows],
            whole=False,
        )
