"""The base of every method's options."""

from __future__ import annotations

from align_dist.options.clock import Clock
from align_dist.schema.text import Section


class Options(Section):
    """The base of options, and the options of a method without any."""

    @property
    def reads_masks(self) -> bool:
        """Return whether training needs the masks of the benchmark."""
        return False

    @property
    def is_guided(self) -> bool:
        """Return whether masks guide the classifier after warm-up."""
        return False

    @property
    def part_divisor(self) -> int:
        """A divisor of the images in a rank's part, for methods that pair images within a batch
        (`methods.versions.other_image_values`); else 1.
        """
        return 1

    @property
    def has_erm_warmup(self) -> bool:
        """Return whether the steps before `shared_warmup` are ERM's, for any options."""
        return True

    def shared_warmup(self, clock: Clock) -> int:
        """Steps before which `after_warmup` options have no effect; 0 where no warm-up can be shared."""
        return 0

    def check(self, clock: Clock) -> None:
        """Raise ConfigError for inconsistent durations."""

    def unmet_requirement(self, domains: int, groups: int) -> str | None:
        """The problem and remedy for a number of source domains and groups of the training images, or None."""
        return None

    def conflict(self, backbone: str) -> str | None:
        """The reason why the options exclude a backbone, starting with the option's name, or None."""
        return None
