"""Faults while a beton is being written: each ends in one line, none in a hang, nothing is left over."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from confined import READ_ONLY, SMALL, run_with_shared_memory
from refusals import raises

from align_dist.data.benchmarks import read_benchmark
from align_dist.data.beton import prepare_beton, verify_beton
from align_dist.data.manifest import ImageField
from align_dist.data.scan import scan
from align_dist.data.writing import SampleDataset, locked_partial, write_samples
from align_dist.errors import DataError, MachineError, StorageError

RAW = ImageField("raw", 64, 90)
PREPARE = """
import sys
from pathlib import Path
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.beton import prepare_beton
from align_dist.errors import UserError
catalogue = read_benchmark("folders", Path(sys.argv[1]))
try:
    prepare_beton(catalogue, Path(sys.argv[2]), max_side=64, mode="raw", workers=2)
except UserError as error:
    print(type(error).__name__, error)
    raise SystemExit(error.exit_code)
"""


class Fatal(SampleDataset):
    """A sample whose reading kills the worker, as the kernel does when memory runs out."""

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.fixture
def folder(tmp_path: Path, pictures: Any) -> Path:
    root: Path = pictures(tmp_path / "data", {"paint": {"cat": 60}, "photo": {"cat": 60}})
    return root


def records(kind: type[SampleDataset], folder: Path) -> SampleDataset:
    samples = read_benchmark("folders", folder).samples
    columns = dict.fromkeys(("label", "domain", "sample"), [0] * len(samples))
    return kind(samples, scan(samples, 64, 2), columns, 64)


def living_members(group: int) -> list[int]:
    """Processes of a group that still run; a container may have nobody to reap the dead ones."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members


@pytest.mark.slow
def test_shared_memory_that_is_smaller_than_the_records_is_enough(folder: Path, tmp_path: Path) -> None:
    """6,000 pictures have 240 kB of records; beyond 128 kB a worker was killed."""
    many = f"""
import sys
from pathlib import Path
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.manifest import ImageField
from align_dist.data.scan import scan
from align_dist.data.writing import SampleDataset, write_samples
samples = read_benchmark("folders", Path({str(folder)!r})).samples
facts = scan(samples, 64, 2)
pictures = SampleDataset([*samples] * 50, [*facts] * 50, dict.fromkeys(("label", "domain", "sample"), [0] * 6000), 64)
write_samples(pictures, Path(sys.argv[1]), ImageField("raw", 64, 90), 2)
"""
    finished = run_with_shared_memory(SMALL, ["-c", many, str(tmp_path / "a")])
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "a").stat().st_size > 240_000


@pytest.mark.slow
def test_without_semaphores_one_line_names_shared_memory(folder: Path, tmp_path: Path) -> None:
    destination = tmp_path / "out" / "a.beton"
    finished = run_with_shared_memory(READ_ONLY, ["-c", PREPARE, str(folder), str(destination)])
    assert finished.returncode == MachineError.exit_code, finished.stderr
    assert finished.stdout.startswith("MachineError /dev/shm: ") and finished.stdout.count("\n") == 1
    assert list(destination.parent.iterdir()) == []


def test_a_killed_worker_is_an_error_and_not_a_hang(folder: Path, tmp_path: Path) -> None:
    with raises(DataError):
        write_samples(records(Fatal, folder), tmp_path / "a", RAW, 2)
    assert multiprocessing.active_children() == []


def test_a_picture_that_changes_between_the_passes_is_named(folder: Path, tmp_path: Path) -> None:
    pictures = records(SampleDataset, folder)
    shutil.copy(pictures.samples[1].path, pictures.samples[5].path)
    with raises(DataError, "cat_005.png"):
        write_samples(pictures, tmp_path / "a", RAW, 2)
    pictures.samples[5].path.unlink()
    with raises(DataError, "cat_005.png"):
        write_samples(pictures, tmp_path / "a", RAW, 2)


@pytest.mark.slow
def test_a_file_size_limit_is_a_storage_error_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    destination = tmp_path / "out" / "a.beton"
    result = subprocess.run(
        [sys.executable, "-c", PREPARE, str(folder), str(destination)],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20)),
    )
    assert result.returncode == StorageError.exit_code, result.stderr
    assert result.stdout.startswith("StorageError") and result.stdout.count("\n") == 1
    assert list(destination.parent.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 3 MB: room for the estimate, not for FFCV's padded pages."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(folder: Path, small_disk: Path) -> None:
    with raises(StorageError, small_disk):
        prepare_beton(read_benchmark("folders", folder), small_disk / "a.beton", max_side=64, mode="raw", workers=2)
    assert list(small_disk.iterdir()) == []


def test_too_little_space_is_said_before_writing(tmp_path: Path, pictures: Any, small_disk: Path) -> None:
    root = pictures(tmp_path / "large", {"only": {"cat": 4}}, side=800)
    with raises(StorageError, small_disk, "0.01 GB"):
        prepare_beton(read_benchmark("folders", root), small_disk / "a.beton", max_side=800, mode="raw")
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.15])
def test_an_interrupt_stops_the_workers_and_leaves_nothing(tmp_path: Path, pictures: Any, delay: float) -> None:
    root = pictures(tmp_path / "data", {"only": {"cat": 20}})
    for copy in range(150):
        shutil.copytree(root / "only" / "cat", root / "only" / f"class{copy}")
    destination = tmp_path / "out" / "a.beton"
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(root), str(destination)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    partial = destination.with_name("a.beton.partial")
    deadline = time.monotonic() + 120
    while not partial.exists() or partial.stat().st_size == 0:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert list(destination.parent.iterdir()) == []
    while living_members(process.pid):
        assert time.monotonic() < deadline, living_members(process.pid)
        time.sleep(0.05)


def test_a_second_writer_of_the_same_beton_is_refused(folder: Path, tmp_path: Path) -> None:
    destination = tmp_path / "a.beton"
    with (
        locked_partial(destination) as partial,
        raises(DataError, destination),
    ):
        prepare_beton(read_benchmark("folders", folder), destination, max_side=64, mode="raw")
    assert not partial.exists() and not destination.exists()


def test_a_leftover_of_a_killed_writer_does_no_harm(folder: Path, tmp_path: Path) -> None:
    destination = tmp_path / "a.beton"
    destination.with_name("a.beton.partial").write_bytes(b"rest" * 100_000)
    prepare_beton(read_benchmark("folders", folder), destination, max_side=64, mode="raw", workers=1)
    assert len(verify_beton(destination)) == 120
