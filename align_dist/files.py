"""Atomic file writes (temporary file, fsync, rename), locks, hashes and JSON."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar

from align_dist.errors import StorageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
# Files that are being written, as a pattern: each is named for its process.
PARTIAL = ".*.partial"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file beside `path`, sync the file and rename it to `path`; a failure leaves nothing behind.

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
        with suppress(OSError):  # where the folder is missing, so is the file
            partial.unlink()


def write_text(path: Path, text: str) -> None:
    """`write_atomically` for text, in UTF-8 whatever the locale."""

    def write(file: BinaryIO) -> None:
        file.write(text.encode(errors="backslashreplace"))  # file names that are not valid UTF-8

    write_atomically(path, write)


def remove(path: Path) -> None:
    """Remove a file, if present. Raises StorageError where removing is not allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def take_lock(file: IO[Any], kind: int) -> bool:
    """Return whether this process got a `flock` of that kind; True on a file system without locks."""
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
    """Hold an exclusive lock on a file; yields whether this process has the lock. wait: block until the lock is free.

    A missing file is created, a missing folder is not. The lock ends with the process, however the process ends. On a
    file system without locks every process gets True.
    """
    with path.open("ab") as file:
        yield take_lock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file, in order; none where the file is missing. Skips a line torn by a crash."""
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []
    return [value for value in map(json_object, lines) if value is not None]


def read_records(path: Path, kind: type[T]) -> list[T]:
    """The records of a JSON lines file as instances of a dataclass; skips torn, damaged and other lines."""
    names = {field.name for field in fields(kind)}
    return [kind(**line) for line in read_json_lines(path) if line.keys() == names]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where the file is missing, damaged or holds no object."""
    try:
        return json_object(path.read_text("utf-8", errors="replace")) or {}
    except OSError:
        return {}


def json_object(line: str) -> dict[str, Any] | None:
    """The JSON object in a line; None where the line is not a JSON object."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def last_lines(path: Path, count: int) -> list[str]:
    """The last non-empty lines within the last 64 KiB of a file; none where the file cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


# Errors of a disk or of permissions: full, read-only, failing, forbidden.
OF_DISKS = (*FULL, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ESTALE)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raise a one-line StorageError in place of an OSError of the disk or of permissions."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_DISKS:
            raise
        path = "a file" if error.filename is None else error.filename
        raise StorageError(f"{path}: {_remedy(error, 'read or written')}") from error


def unwritable(path: Path, error: OSError) -> StorageError:
    """The StorageError for a file or folder that could not be written."""
    return StorageError(f"{path}: {_remedy(error)}; the previous content is untouched")


def _remedy(error: OSError, action: str = "written") -> str:
    if error.errno in FULL:
        return "the disk is full, free some space and run the same command again to resume"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return f"cannot be {action}, a file stands where a folder is expected; name another place"
    return f"cannot be {action} ({error.strerror}), check the folder and its permissions"


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that renames in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
