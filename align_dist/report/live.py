"""The live table of runs: state, progress, speed, accuracy and time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from align_dist.runs.progress import Progress
from align_dist.runs.status import State, Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-~=+*#"
POINTS = 10
LOG_WIDTH = 200
NUMBERS = ("seed", "trained", "images/s", "validation", "left")
ACTIVE = (State.RUNNING, State.WAITING)
STYLES = {
    State.FINISHED: "green",
    State.RUNNING: "cyan",
    State.WAITING: "yellow",
    State.INTERRUPTED: "magenta",
    State.TRAINED: "green",
    State.STOPPED: "dim",
    State.FAILED: "bold red",
    State.NEW: "dim",
}


@dataclass(frozen=True)
class Line:
    """A run in the table. names: what distinguishes the run, by column, with the same columns in every line."""

    names: Mapping[str, str]
    status: Status
    progress: Progress

    @property
    def active(self) -> bool:
        """Return whether the run's state may still change."""
        return self.status.state in ACTIVE


def live_table(lines: Sequence[Line], levels: str = BLOCKS) -> Table:
    """A table with one row per run, without empty columns. levels: characters of a sparkline, from low to high."""
    from rich.table import Table
    from rich.text import Text

    counts = Counter(line.status.state for line in lines)
    title = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    rows = [_row(line, levels) for line in lines]
    columns = [name for name in (rows[0] if rows else ()) if any(row[name] for row in rows)]
    names = lines[0].names if lines else ()
    for name in columns:
        # On a narrow terminal only names and reasons shrink.
        fixed = name not in names and name != "reason"
        table.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold", no_wrap=fixed)
    for line, row in zip(lines, rows, strict=True):
        cells = {name: Text(row[name]) for name in columns}
        cells["state"].stylize(STYLES[line.status.state])
        if "reason" in cells:
            cells["reason"].no_wrap, cells["reason"].overflow = True, "ellipsis"
        table.add_row(*cells.values())
    return table


def _row(line: Line, levels: str) -> dict[str, str]:
    progress, running = line.progress, line.status.state is State.RUNNING
    return {
        **line.names,
        "state": str(line.status.state),
        "trained": str(progress),
        "images/s": f"{progress.images_per_second:.0f}" if running and progress.images_per_second else "",
        "validation": "" if progress.accuracy is None else f"{progress.accuracy:.1%}",
        "history": sparkline(list(progress.accuracies.values()), levels),
        "left": _left(progress.seconds_left) if running and progress.seconds_left is not None else "",
        "reason": line.status.reason,
    }


def sparkline(values: Sequence[float], levels: str = BLOCKS, points: int = POINTS) -> str:
    """Values as characters from the lowest to the highest; at most `points` evenly spaced values, including the last.

    Equal values are drawn in the middle.
    """
    last = len(values) - 1
    points_shown = values if last < points else [values[round(index * last / (points - 1))] for index in range(points)]
    low, span = min(points_shown, default=0.0), max(points_shown, default=0.0) - min(points_shown, default=0.0)
    heights = [(value - low) / span if span else 0.5 for value in points_shown]
    return "".join(levels[min(int(height * len(levels)), len(levels) - 1)] for height in heights)


def levels_of(encoding: str) -> str:
    """The characters of a sparkline that an encoding supports."""
    try:
        BLOCKS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def duration(seconds: float) -> str:
    """`2 h 05 min`, `4 min`, `30 s`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def print_table(lines: Sequence[Line]) -> None:
    """Print the table to standard output."""
    console = _console()
    console.print(live_table(lines, levels_of(console.encoding)))


class LiveTable:
    """A table of running runs: redrawn in place on a terminal, and printed again in a log whenever a state changes.

    On a terminal the table is cleared at the end, because the screen may have held only a part of it.
    """

    def __init__(self) -> None:
        from rich.live import Live

        self._console = _console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._printed: list[State] = []

    @property
    def in_place(self) -> bool:
        """Return whether the table is redrawn on a terminal."""
        return self._console.is_terminal

    def __enter__(self) -> LiveTable:
        if self.in_place:
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def show(self, lines: Sequence[Line]) -> None:
        """Draw the current table. Where the screen does not hold all lines, active runs come first."""
        states = [line.status.state for line in lines]
        if self.in_place:
            fits = len(lines) < self._console.height - 2
            ordered = lines if fits else sorted(lines, key=lambda line: not line.active)
            self._live.update(live_table(ordered, levels_of(self._console.encoding)), refresh=True)
        elif states != self._printed:
            self._printed = states
            print_table(lines)


def watch(read: Callable[[], Sequence[Line]], every: float) -> None:
    """Show the table until no run is running or waiting, or until Ctrl-C. every: seconds between two updates."""
    lines = read()
    with LiveTable() as table, suppress(KeyboardInterrupt):
        table.show(lines)
        while any(line.active for line in lines):
            time.sleep(every)
            lines = read()
            table.show(lines)
    if table.in_place:
        print_table(lines)


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)


def _left(seconds: float) -> str:
    """Time that training still takes; a run that has trained is measured on its test domains."""
    return duration(seconds) if seconds > 0 else "measuring"
