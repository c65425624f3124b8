"""A diagnosis about a machine, its data or its cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """A line of `align-dist doctor`. state: `ok`, `note` (optional) or `missing` (required)."""

    state: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        """The state, the diagnosis and the remedy in one line."""
        return f"{self.state:8}{self.what}" + (f"  → {self.remedy}" if self.remedy else "")
