"""What every method's options answer."""

from __future__ import annotations

from align_dist.methods.clock import Clock
from align_dist.schema.text import Described


class Options(Described):
    """The options of a method that has none, and what every method's options answer."""

    @property
    def reads_masks(self) -> bool:
        """Whether training needs the masks of the benchmark."""
        return False

    @property
    def part_multiple(self) -> int:
        """What the images of a rank's part must be a multiple of, where images are paired within a batch
        (`methods.versions.of_another`); 1 where none are.
        """
        return 1

    @property
    def plain_warmup(self) -> bool:
        """Whether the steps before `begins` are those of ERM, whatever the options."""
        return True

    def begins(self, clock: Clock) -> int:
        """The step before which options that are `after_warmup` change nothing; 0 where no warm-up can be shared."""
        return 0

    def check(self, clock: Clock) -> None:
        """Raises ConfigError for lengths that do not go together."""

    def lacking(self, domains: int, groups: int) -> str | None:
        """What training pictures of so many source domains and groups lack, and the remedy; None where nothing."""
        return None

    def conflict(self, backbone: str) -> str | None:
        """Why the options do not go with a backbone, beginning with the option's name; None where they do."""
        return None
