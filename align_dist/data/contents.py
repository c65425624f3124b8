"""What files hold, told by their stamps where those suffice, and by their SHA-256 where not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from align_dist.data.progress import progress
from align_dist.machine import available_cores

# Size in bytes, and the time of the last change in nanoseconds.
Stamp = tuple[int, int]
NO_STAMP: Stamp = (-1, -1)
# Fewer files are hashed before anyone asks how far it is.
MANY = 1000


def stamp_of(path: Path) -> Stamp:
    """A file's size and time; NO_STAMP where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return NO_STAMP
    return found.st_size, found.st_mtime_ns


def file_sha256(path: Path) -> str:
    """SHA-256 of a file of any size, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digests_of(paths: Sequence[Path], label: str = "hashing") -> list[str]:
    """SHA-256 of each file, in parallel threads, with progress for many; empty for one that cannot be read."""
    found: list[str] = []
    telling = progress(label, len(paths), "files") if len(paths) >= MANY else nullcontext(lambda _done: None)
    with telling as report, ThreadPoolExecutor(available_cores()) as pool:
        for digest in pool.map(_digest, paths):
            found.append(digest)
            report(len(found))
    return found


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return ""
