"""A run's metrics as the product writes them, with what crashes and bad disks leave between the lines."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from refusals import raises

from align_dist.errors import StorageError
from align_dist.runs.metrics import Record, forget_after, latest_metrics, read_metrics, read_scalars, write_metrics

ODD = [
    b"\xff\xfe\x00\n",
    b'{"step": "x", "epoch": 1.0}\n',
    b"[1]\n",
    b"7\n",
    b'{"step": null, "epoch": 1.0}\n',
    b'{"step": 9}\n',
    b"\n",
    b'{"step": 4, "lo',
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Steps 2, 4 and 6 between lines of other forms."""
    path = tmp_path / "metrics.jsonl"
    for step in (2, 4, 6):
        write_metrics(path, step, step / 4, {"loss": 1.0 / step})
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"".join(ODD[:3]) + second + b"".join(ODD[3:7]) + third + ODD[7])
    return path


def test_lines_of_another_form_are_there_for_no_reader(path: Path) -> None:
    records = [Record(step, step / 4, {"loss": 1.0 / step}) for step in (2, 4, 6)]
    assert read_metrics(path) == latest_metrics(path) == records
    assert read_scalars(path) == {"loss": {2: 1 / 2, 4: 1 / 4, 6: 1 / 6}}


def test_what_a_resumed_run_does_again_is_forgotten_with_all_that_is_torn(path: Path) -> None:
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if b'"loss"' in line][:2]
    forget_after(path, 4)
    assert path.read_bytes().splitlines(keepends=True) == lines


def test_a_run_without_metrics_has_told_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    forget_after(path, 4)
    assert not path.exists()
    assert read_metrics(path) == latest_metrics(path) == []
    assert read_scalars(path) == {}


def test_of_a_long_file_the_latest_are_its_last(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in range(1, 3001):
        write_metrics(path, step, step / 4, {"loss": 1.0})
    assert path.stat().st_size > 100_000
    assert latest_metrics(path) == read_metrics(path)[-50:]


def test_of_a_step_written_twice_the_last_value_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step, value in ((2, 1.0), (1, 3.0), (2, 5.0)):
        write_metrics(path, step, 0.5, {"loss": value})
    assert list(read_scalars(path)["loss"].items()) == [(1, 3.0), (2, 5.0)]


def test_values_that_are_not_finite_are_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, 1, 0.5, {"loss": math.nan, "area": math.inf, "accuracy": 1})
    assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()
    assert read_metrics(path) == [Record(1, 0.5, {"accuracy": 1.0})]


def test_a_full_disk_is_named_by_the_file_that_did_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    with raises(StorageError, path):
        write_metrics(path, 1, 0.5, {"loss": 1.0})
