"""Honest small timings: alone on the machine or not at all, contestants in turn, the median, ratios within one run."""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from align_dist.errors import MachineError

# Of the cores: what others may take before a ratio is no longer one.
TOLERATED = 0.1
BEFOREHAND = 1.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Look:
    """One look at a machine. clock: seconds. busy: seconds that our cores have worked, for anybody, all cores together.

    own: those that this process and its children have worked. others: name and seconds of each other process, by its
    id: the kernel's threads change their names.
    """

    clock: float
    busy: float
    own: float
    others: dict[int, tuple[str, float]]


def measured_alone(measure: Callable[[], object]) -> None:
    """Prints what `measure` prints, if nothing else worked on the machine before and while it ran.

    Raises MachineError, and prints nothing, where other processes took more than a tenth of the cores.
    """
    start = look()
    time.sleep(BEFOREHAND)
    refuse_company(start, look(), "before")
    told = io.StringIO()
    start = look()
    with redirect_stdout(told):
        measure()
    refuse_company(start, look(), "during")
    print(told.getvalue(), end="")


def look() -> Look:
    """The machine now, by Linux's own accounts; the cores are those that this process may use."""
    mine = os.getpid()
    tree = {mine, *(child.pid for child in psutil.Process().children(recursive=True))}
    own, others = 0.0, dict[int, tuple[str, float]]()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            spent = process.cpu_times()
            if process.pid in tree:
                own += spent.user + spent.system + spent.children_user + spent.children_system
            else:
                others[process.pid] = process.name(), spent.user + spent.system
    return Look(time.monotonic(), _busy_seconds(os.sched_getaffinity(0)), own, others)


def _busy_seconds(cores: set[int]) -> float:
    """What /proc/stat counts as neither idle nor waiting; guests are in user time already."""
    names = {f"cpu{core}" for core in cores}
    busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in names:
            user, nice, system, _idle, _waiting, *interrupts = map(int, ticks[:8])
            busy += user + nice + system + sum(interrupts)
    return busy / TICKS


def share_of_others(before: Look, after: Look, cores: int) -> float:
    """What others worked between two looks, as a share of all that the cores could have; ≥ 0."""
    worked = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, worked) / ((after.clock - before.clock) * cores)


def refuse_company(before: Look, after: Look, when: str) -> None:
    """Raises MachineError, naming the busiest, where others took more than is tolerated between two looks."""
    share = share_of_others(before, after, len(os.sched_getaffinity(0)))
    if share <= TOLERATED:
        return
    spent = {
        f"{name} ({process})": seconds - before.others.get(process, ("", 0.0))[1]
        for process, (name, seconds) in after.others.items()
    }
    busiest = max(spent, key=lambda name: spent[name], default="")
    named = f", most of it {busiest}" if spent.get(busiest, 0) > 0 else ""
    raise MachineError(
        f"bench: {when} the measurement other work took {share:.0%} of the cores{named}; nothing measured beside it "
        "would be a ratio: wait for it, or end it"
    )


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
        print(f"  {name:36} {images / value:9,.1f} images/s   {seconds[reference] / value:6.2f} x {reference}")
