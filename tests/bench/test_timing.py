"""A benchmark beside other work says so, and no number; alone it says what was measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from refusals import raises

from align_dist.bench.timing import LoadSnapshot, check_quiet, load_snapshot, share_of_others
from align_dist.config import RunConfig, to_yaml
from align_dist.errors import MachineError
from align_dist.machine import available_cores

BUSY = [sys.executable, "-c", "while True: pass"]


def a_look(clock: float, busy: float, own: float, **others: float) -> LoadSnapshot:
    """Others' ids are the lengths of their names."""
    return LoadSnapshot(clock, busy, own, {len(name): (name, seconds) for name, seconds in others.items()})


@pytest.mark.parametrize(
    ("busy", "own", "cores", "expected"),
    [(10, 10, 2, 0), (20, 10, 2, 0.5), (20, 0, 2, 1), (12, 10, 2, 0.1), (9.9, 10, 2, 0), (12, 10, 4, 0.05)],
)
def test_what_is_not_ours_is_others_share(busy: float, own: float, cores: int, expected: float) -> None:
    before, after = a_look(100, 50, 7), a_look(110, 50 + busy, 7 + own)
    assert share_of_others(before, after, cores) == pytest.approx(expected)


def test_a_refusal_is_one_line_that_names_the_busiest() -> None:
    cores = available_cores()
    before, after = a_look(0, 0, 0, old=50.0), a_look(10, 8.0 * cores, 0, old=50.5, young=7.0)
    with raises(MachineError, "80%", "young"):
        check_quiet(before, after, "before")
    check_quiet(before, a_look(10, 0.5 * cores, 0, old=50.5), "before")


def test_a_thread_of_the_kernel_that_takes_another_name_has_worked_no_more_for_it() -> None:
    cores = available_cores()
    before, after = a_look(0, 0, 0, old=50.0), a_look(10, 8.0 * cores, 0, new=50.5, young=7.0)
    with raises(MachineError, "young"):
        check_quiet(before, after, "before")


@pytest.fixture
def busy() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Other programs that keep every core at work, known to have begun."""
    processes = [subprocess.Popen(BUSY) for _ in range(available_cores())]
    try:
        for process in processes:
            while psutil.Process(process.pid).cpu_times().user < 0.1:
                assert process.poll() is None
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["step", "scale"])  # all verbs are called in one place
def test_a_verb_beside_other_work_prints_a_line_and_no_table(
    squares: RunConfig, tmp_path: Path, busy: list[subprocess.Popen[bytes]], what: str
) -> None:
    (tmp_path / "run.yaml").write_text(to_yaml(squares))
    command = [sys.executable, "-m", "align_dist.cli", "bench", what, str(tmp_path / "run.yaml")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == MachineError.exit_code, finished.stderr
    assert finished.stdout == ""
    (line,) = finished.stderr.strip().splitlines()
    assert line.startswith("align-dist: ")


def test_the_work_of_ones_own_children_is_not_anothers(busy: list[subprocess.Popen[bytes]]) -> None:
    """Seen from here, whose children they are, and at the same time from beside, they are ours and others'."""
    beside = subprocess.Popen(
        [sys.executable, "-c", SEEN_FROM_BESIDE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert beside.stdin is not None and beside.stdout is not None
    beside.stdout.readline()
    before = load_snapshot()
    ids = {process.pid for process in busy}
    assert not ids & before.others.keys()
    while load_snapshot().own - before.own < 0.5:
        assert all(process.poll() is None for process in busy)
    output, _ = beside.communicate("now\n")
    assert float(output) > 0.2


SEEN_FROM_BESIDE = """
from align_dist.bench.timing import load_snapshot, share_of_others
before = load_snapshot()
print("ready", flush=True)
input()
after = load_snapshot()
print(after.busy - before.busy - (after.own - before.own))
"""
