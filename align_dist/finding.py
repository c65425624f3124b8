"""What a look at a machine, its data or its cluster comes upon."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """state: `ok`, `note` (works without it) or `missing` (does not)."""

    state: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        """A line."""
        return f"{self.state:8}{self.what}" + (f"  → {self.remedy}" if self.remedy else "")
