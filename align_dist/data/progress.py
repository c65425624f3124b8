"""Progress of long work: a bar on a terminal, a line from time to time in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_SECONDS = 10.0


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of finished items and reports progress to standard error."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=label, unit=f" {unit}") as bar:
            yield lambda number: _advance(bar, number)
        return
    last = time.monotonic()

    def report(number: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_SECONDS:
            last = time.monotonic()
            print(f"{label}: {number:,} of {total:,} {unit}", file=sys.stderr, flush=True)

    print(f"{label}: {total:,} {unit}", file=sys.stderr, flush=True)
    yield report


def _advance(bar: object, number: int) -> None:
    bar.update(number - bar.n)  # type: ignore[attr-defined]
