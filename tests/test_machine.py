from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from align_dist.machine import CGROUPS, available_cores, cpu_quota, describe_machine


def test_cores_are_those_of_the_cpuset_not_of_the_machine() -> None:
    one = min(os.sched_getaffinity(0))
    command = ["taskset", "-c", str(one), sys.executable, "-c"]
    process = subprocess.run(
        [*command, "from align_dist.machine import available_cores; print(available_cores())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == "1"


def test_the_description_names_processor_and_cores() -> None:
    processor, _, cores = describe_machine().rpartition(", ")
    assert processor and cores == f"{available_cores()} of {os.cpu_count()} cores"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000", math.inf), ("150000 100000", 1.5), ("50000 100000", 0.5), ("", math.inf), ("torn", math.inf)],
)
def test_a_quota_of_version_2(tmp_path: Path, content: str, cores: float) -> None:
    write(tmp_path / "jobs" / "mine", cpu__max=content)
    assert cpu_quota("0::/jobs/mine\n", tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", math.inf), ("250000", 2.5), ("0", 0), ("", math.inf)])
def test_a_quota_of_version_1(tmp_path: Path, quota: str, cores: float) -> None:
    write(tmp_path / "cpu,cpuacct" / "mine", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    membership = "12:memory:/other\n4:cpu,cpuacct:/mine\n0::/\n"
    assert cpu_quota(membership, tmp_path) == cores


def test_the_least_of_all_levels_counts_and_a_container_sees_its_own_as_the_root(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", cpu__max="max 100000")
    write(tmp_path / "a", cpu__max="300000 100000")
    write(tmp_path, cpu__max="400000 100000")
    assert cpu_quota("0::/a/b\n", tmp_path) == 3
    assert cpu_quota("0::/outside/of/the/container\n", tmp_path) == 4
    assert cpu_quota("", tmp_path) == math.inf


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A real cgroup of version 1 or 2 with the time of half a core."""
    folders = [(Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us", "50000"), (CGROUPS, "cpu.max", "50000 100000")]
    for root, name, content in folders:
        folder = root / f"align_dist-test-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / name).write_text(content)
        except OSError:
            with suppress(OSError):
                folder.rmdir()
            continue
        yield folder
        folder.rmdir()
        return
    pytest.skip("no cgroup can be made here")


def test_a_real_quota_leaves_one_core(half_a_core: Path) -> None:
    joins = f"import os; open('{half_a_core}/cgroup.procs', 'w').write(str(os.getpid())); "
    process = subprocess.run(
        [sys.executable, "-c", joins + "from align_dist.machine import available_cores; print(available_cores())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == "1"


MEASURE = """
import resource, sys, torch
from align_dist.machine import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for turn in range(60):
    if turn == 40:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_taken(what: str) -> int:
    """By the last twenty of sixty tensors of 64 MiB, one after another, in a fresh process."""
    process = subprocess.run([sys.executable, "-c", MEASURE, what], capture_output=True, text=True, check=True)
    return int(process.stdout)


def test_memory_that_is_kept_is_not_taken_from_the_kernel_again() -> None:
    assert 5 * pages_taken("keep") < pages_taken("give back")
