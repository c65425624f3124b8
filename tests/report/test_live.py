"""The live table's parts, worked by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from align_dist.report.live import ASCII, BLOCKS, Line, duration, levels_of, live_table, sparkline, watch
from align_dist.runs.progress import Progress
from align_dist.runs.status import State, Status

IDLE = Progress(0, 0.0, None, None, None, {})
BUSY = Progress(12, 1.5, "4 epochs", 87.4, 150.0, {4: 0.5, 8: 0.6, 12: 0.75})


def drawn(*lines: Line) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=200).print(live_table(lines))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], "01234567"),
        ([7, 0], "70"),
        ([0.2, 0.2, 0.2], "444"),
        ([1], "4"),
        ([], ""),
        # Ten of nineteen, every second: 0, 2, … 18 of 18, of which each eighth is 2.25 high.
        (list(range(19)), "0012345677"),
    ],
)
def test_a_sparkline_runs_from_the_lowest_to_the_highest(values: list[float], levels: str) -> None:
    assert sparkline(values, "01234567") == levels
    assert len(BLOCKS) == len(ASCII) == 8


@pytest.mark.parametrize(
    ("encoding", "levels"), [("utf-8", BLOCKS), ("ascii", ASCII), ("iso-8859-1", ASCII), ("no such", ASCII)]
)
def test_blocks_only_where_the_encoding_has_them(encoding: str, levels: str) -> None:
    assert levels_of(encoding) == levels


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7500, "2 h 05 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_run_at_work_tells_its_speed_and_one_that_is_not_does_not() -> None:
    running = Line({"run": "a[b]"}, Status(State.RUNNING, ""), BUSY)
    failed = Line({"run": "c"}, Status(State.FAILED, "no [disk]"), BUSY)
    title, header, *rows = drawn(running, failed)
    assert title == "1 running, 1 failed"
    assert header.split() == ["run", "state", "trained", "images/s", "validation", "history", "left", "reason"]
    assert rows[0].split() == ["a[b]", "running", "1.5/4", "epochs", "87", "75.0%", "▁▄█", "2", "min"]
    assert rows[1].split() == ["c", "failed", "1.5/4", "epochs", "75.0%", "▁▄█", "no", "[disk]"]


def test_columns_without_anything_to_show_are_left_out() -> None:
    _, header, row = drawn(Line({"run": "a", "job": ""}, Status(State.NEW, ""), IDLE))
    assert (header.split(), row.split()) == (["run", "state"], ["a", "new"])


def test_in_a_log_the_table_comes_again_when_a_state_changes_until_nothing_is_active(
    capsys: pytest.CaptureFixture[str],
) -> None:
    states = [State.WAITING, State.RUNNING, State.RUNNING, State.FINISHED, State.NEW]
    looks = iter(states)
    watch(lambda: [Line({"run": "a"}, Status(next(looks), ""), IDLE)], every=0.0)
    printed = capsys.readouterr().out
    assert [printed.count(f"1 {state}") for state in states[:2] + states[3:]] == [1, 1, 1, 0]
