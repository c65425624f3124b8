"""Stamps (size and time) and SHA-256 of files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from align_dist.data.progress import progress
from align_dist.files import file_sha256
from align_dist.machine import available_cores

# Size in bytes, and modification time in nanoseconds.
Stamp = tuple[int, int]
NO_STAMP: Stamp = (-1, -1)
# Fewer files are hashed too fast for a progress bar.
MANY = 1000


def stamp_of(path: Path) -> Stamp:
    """Size and modification time of a file; NO_STAMP where the file is missing or inaccessible."""
    try:
        status = path.stat()
    except OSError:
        return NO_STAMP
    return status.st_size, status.st_mtime_ns


def digests_of(paths: Sequence[Path], label: str = "hashing") -> list[str]:
    """SHA-256 of each file, in parallel threads, with progress for many files; empty for an unreadable file."""
    digests: list[str] = []
    context = progress(label, len(paths), "files") if len(paths) >= MANY else nullcontext(lambda _done: None)
    with context as report, ThreadPoolExecutor(available_cores()) as pool:
        for digest in pool.map(_digest, paths):
            digests.append(digest)
            report(len(digests))
    return digests


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return ""
