"""Lines for the user, printed by whatever a caller gives."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


def say_nothing(_line: str) -> None:
    """Print no line: for ranks other than the first, and for what a caller reports itself."""
