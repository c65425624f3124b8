"""Timings without other load on the machine: alternatives in turn, medians, ratios within one run."""

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

# Share of the cores that other processes may use before a ratio is unreliable.
TOLERATED = 0.1
BEFOREHAND = 1.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class LoadSnapshot:
    """A snapshot of the machine's load. clock: seconds. busy: CPU seconds of all processes, summed over the cores of
    this process.

    own: CPU seconds of this process and its children. others: name and CPU seconds of every other process by process
    id, because kernel threads change their names.
    """

    clock: float
    busy: float
    own: float
    others: dict[int, tuple[str, float]]


def run_on_quiet_machine(measure: Callable[[], object]) -> None:
    """Run `measure` and print its output, if no other process has loaded the machine before or meanwhile.

    Raises MachineError, without output, where other processes took more than a tenth of the cores.
    """
    start = load_snapshot()
    time.sleep(BEFOREHAND)
    check_quiet(start, load_snapshot(), "before")
    output = io.StringIO()
    start = load_snapshot()
    with redirect_stdout(output):
        measure()
    check_quiet(start, load_snapshot(), "during")
    print(output.getvalue(), end="")


def load_snapshot() -> LoadSnapshot:
    """A snapshot of the machine's load from Linux, for the cores that this process may use."""
    own_id = os.getpid()
    tree = {own_id, *(child.pid for child in psutil.Process().children(recursive=True))}
    own, others = 0.0, dict[int, tuple[str, float]]()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            cpu_times = process.cpu_times()
            if process.pid in tree:
                own += cpu_times.user + cpu_times.system + cpu_times.children_user + cpu_times.children_system
            else:
                others[process.pid] = process.name(), cpu_times.user + cpu_times.system
    return LoadSnapshot(time.monotonic(), _busy_seconds(os.sched_getaffinity(0)), own, others)


def _busy_seconds(cores: set[int]) -> float:
    """CPU seconds in /proc/stat that are neither idle nor waiting; user time already includes guests."""
    names = {f"cpu{core}" for core in cores}
    busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in names:
            user, nice, system, _idle, _waiting, *interrupts = map(int, ticks[:8])
            busy += user + nice + system + sum(interrupts)
    return busy / TICKS


def share_of_others(before: LoadSnapshot, after: LoadSnapshot, cores: int) -> float:
    """CPU time of other processes between two snapshots, as a share of all cores' time; ≥ 0."""
    others_seconds = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, others_seconds) / ((after.clock - before.clock) * cores)


def check_quiet(before: LoadSnapshot, after: LoadSnapshot, when: str) -> None:
    """Raise MachineError, with the busiest process, where other processes took more than TOLERATED."""
    share = share_of_others(before, after, len(os.sched_getaffinity(0)))
    if share <= TOLERATED:
        return
    seconds_of_others = {
        f"{name} ({process})": seconds - before.others.get(process, ("", 0.0))[1]
        for process, (name, seconds) in after.others.items()
    }
    busiest = max(seconds_of_others, key=lambda name: seconds_of_others[name], default="")
    culprit = f", most of it {busiest}" if seconds_of_others.get(busiest, 0) > 0 else ""
    raise MachineError(
        f"bench: {when} the measurement other processes took {share:.0%} of the cores{culprit}; ratios would be "
        "unreliable: wait until they end, or end them"
    )


def interleaved_seconds(contestants: dict[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """Median seconds of each alternative, after one warm-up round. Taking turns cancels the machine's drift."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if round_number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def print_ratios(title: str, seconds: dict[str, float], images: int, reference: str) -> None:
    """Print images per second of each alternative, and the ratio to the reference."""
    print(title)
    for name, value in seconds.items():
        print(f"  {name:36} {images / value:9,.1f} images/s   {seconds[reference] / value:6.2f} x {reference}")
