"""A rank's batch on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from align_dist.data.sample_keys import SampleKeys

# Value from which a mask's pixel counts as object.
OBJECT_THRESHOLD = 0.5


def has_object(masks: Tensor) -> Tensor:
    """Mark the masks (B, H, W) in [0, 1] with an object: (B,) bool. A crop, or a segmentation model, may leave none."""
    return masks.flatten(1).amax(1) >= OBJECT_THRESHOLD


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch, on the device.

    images: (B, 3, H, W) float32, normalised; 0 is the mean colour. labels, domains: (B,) int64. samples: (B,) int64
    sample ids. sample_keys: (B,) sample keys. masks: (B, H, W) float32 in [0, 1], or None where the benchmark has no
    true masks or the loader reads none. second: (B, 3, H, W) second images, values: tensors (B, ...), both as requested
    by the share. ranks: the world size. whole: whether the batch holds all of the rank's images. groups: (B,) int64,
    class and spurious attribute, or None for a benchmark without groups.
    """

    images: Tensor
    labels: Tensor
    domains: Tensor
    samples: Tensor
    sample_keys: SampleKeys
    masks: Tensor | None = None
    second: Tensor | None = None
    values: Mapping[str, Tensor] = field(default_factory=dict)
    ranks: int = 1
    whole: bool = True
    groups: Tensor | None = None

    def parts(self, count: int) -> list[Batch]:
        """Split the batch into `count` parts of equal size. Raises ValueError where `count` does not divide the size.

        Parts are strided, because images are ordered by domain and each part should hold all domains.
        """
        if count == 1:
            return [self]
        if len(self.images) % count:
            raise ValueError(f"a batch of {len(self.images)} images cannot be split into {count} equal parts")
        return [self._piece(slice(start, None, count)) for start in range(count)]

    def _piece(self, rows: slice) -> Batch:
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            domains=self.domains[rows],
            samples=self.samples[rows],
            sample_keys=self.sample_keys[rows],
            masks=None if self.masks is None else self.masks[rows],
            second=None if self.second is None else self.second[rows],
            values={name: value[rows] for name, value in self.values.items()},
            groups=None if self.groups is None else self.groups[rows],
            whole=False,
        )
