"""Honest small timings: several rounds, contestants in turn, the median, and ratios within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds_in_turn(contestants: dict[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """Median seconds of each, after one round that does not count. Turns cancel the machine's drift."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if round_number:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def print_ratios(title: str, seconds: dict[str, float], images: int, reference: str) -> None:
    """Images a second of each, and how many times faster than the reference."""
    print(title)
    for name, value in seconds.items():
        print(f"  {name:36} {images / value:9,.0f} images/s   {seconds[reference] / value:6.2f} x {reference}")
