"""Files that are whole or absent: written beside, synced, renamed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from align_dist.errors import StorageError


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes a file beside `path`, syncs it and renames it over `path`; on any failure nothing is left.

    Raises StorageError when the disk is full or the folder is not writable.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with suppress(OSError):  # a folder that is none has nothing in it either
            partial.unlink()


def write_text(path: Path, text: str) -> None:
    """`write_whole` for text."""

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_whole(path, write)


def remove(path: Path) -> None:
    """Removes a file, if it is there. Raises StorageError where that is not allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def take_lock(file: IO[Any], kind: int) -> bool:
    """Whether a `flock` of that kind is now ours, or the file system has none to give."""
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Whether this process has the lock of a file to itself while inside; waits for it unless told not to.

    The file is made where it is missing, its folder is not. The lock ends with the process, however it ends. A file
    system without locks gives none.
    """
    with path.open("ab") as file:
        yield take_lock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, in order; none where it is missing. A line torn by a crash is left out."""
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []
    return [value for value in map(_object_in, lines) if value is not None]


def _object_in(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def unwritable(path: Path, error: OSError) -> StorageError:
    """What to raise for a file or folder that could not be written."""
    return StorageError(f"{path}: {_remedy(error)}; what was there before is untouched")


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full, free some space and start the same command again"
    return f"cannot be written ({error.strerror}), check the folder's permissions"


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
