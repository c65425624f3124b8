"""Files that are whole or absent: written beside, synced, renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

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
        raise StorageError(f"{path}: {_remedy(error)}; what was there before is untouched") from None
    finally:
        with suppress(OSError):  # a folder that is none has nothing in it either
            partial.unlink()


def write_text(path: Path, text: str) -> None:
    """`write_whole` for text."""

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_whole(path, write)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it. Raises StorageError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: {_remedy(error)}") from None


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
