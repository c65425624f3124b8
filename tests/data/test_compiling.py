from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DOUBLED = """
import numpy as np
from align_dist.data.compiling import compiled_for

def double(numbers):
    for i in range(len(numbers)):
        numbers[i] *= 2

machine_code = compiled_for(double, "void(int64[::1])")
numbers = np.arange(4)
machine_code(numbers)
print(*numbers, bool(machine_code.stats.cache_hits))
"""
COMPILED, READ = "0 2 4 6 False\n", "0 2 4 6 True\n"


class Program:
    """A file that has a function compiled, and says what the function does and whether its code was kept."""

    def __init__(self, folder: Path, before: str = "") -> None:
        self.file = folder / "program.py"
        self.file.write_text(before + DOUBLED)

    def start(self, cache: Path | str) -> subprocess.Popen[str]:
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        return subprocess.Popen([sys.executable, str(self.file)], env=environment, stdout=subprocess.PIPE, text=True)

    def says(self, cache: Path | str) -> str:
        return self.start(cache).communicate(timeout=120)[0]


def test_what_one_process_compiled_the_next_one_reads(tmp_path: Path) -> None:
    program = Program(tmp_path)
    assert [program.says(tmp_path / "cache") for _ in range(2)] == [COMPILED, READ]


def test_a_changed_function_is_compiled_anew(tmp_path: Path) -> None:
    Program(tmp_path).says(tmp_path / "cache")
    assert Program(tmp_path, "# line\n").says(tmp_path / "cache") == COMPILED


def test_processes_that_begin_at_once_leave_what_the_next_one_reads(tmp_path: Path) -> None:
    program = Program(tmp_path)
    together = [program.start(tmp_path / "cache") for _ in range(3)]
    assert {process.communicate(timeout=120)[0] for process in together} <= {COMPILED, READ}
    assert program.says(tmp_path / "cache") == READ


@pytest.mark.parametrize("cache", ["/dev/null/nowhere", "/proc/nowhere"])
def test_where_nothing_can_be_kept_it_works_all_the_same(cache: str, tmp_path: Path) -> None:
    assert Program(tmp_path).says(cache) == COMPILED


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to someone else")
def test_a_folder_of_someone_else_is_not_read(tmp_path: Path) -> None:
    program, cache = Program(tmp_path), tmp_path / "cache"
    program.says(cache)
    (folder,) = (cache / "align_dist" / "compiled").iterdir()
    os.chown(folder, 12345, 12345)
    assert program.says(cache) == COMPILED


def test_a_full_disk_while_keeping_is_no_failure(tmp_path: Path) -> None:
    """A limit on the size of files is what a full disk is: the write fails in the middle."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    assert Program(tmp_path, limit).says(tmp_path / "cache") == COMPILED
    assert Program(tmp_path).says(tmp_path / "cache") == COMPILED
