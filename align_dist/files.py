"""Files that are whole or absent: written beside, synced, renamed."""

from __future__ import annotations

import errno
import fcntl
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
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    """`write_whole` for text, in UTF-8 whatever the locale."""

    def write(file: BinaryIO) -> None:
        file.write(text.encode(errors="backslashreplace"))  # names in bytes that are no text

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
    return [value for value in map(json_object, lines) if value is not None]


def read_records(path: Path, kind: type[T]) -> list[T]:
    """A file of JSON lines as records of a dataclass; a line of another form, torn or damaged, is left out."""
    names = {field.name for field in fields(kind)}
    return [kind(**line) for line in read_json_lines(path) if line.keys() == names]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of JSON; an empty one where the file is missing, damaged or of another form."""
    try:
        return json_object(path.read_text("utf-8", errors="replace")) or {}
    except OSError:
        return {}


def json_object(line: str) -> dict[str, Any] | None:
    """The JSON object in a line; None where the line is none."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines that say something, of the last 64 KiB of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


# Of a disk or of a user's rights: full, read-only, failing, forbidden.
OF_DISKS = (*FULL, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ESTALE)


@contextmanager
def disk_errors_in_words() -> Iterator[None]:
    """Raises StorageError, one line, in place of an OSError that a disk or a user's rights have caused."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_DISKS:
            raise
        named = "a file" if error.filename is None else error.filename
        raise StorageError(f"{named}: {_remedy(error, 'read or written')}") from error


def unwritable(path: Path, error: OSError) -> StorageError:
    """What to raise for a file or folder that could not be written."""
    return StorageError(f"{path}: {_remedy(error)}; what was there before is untouched")


def _remedy(error: OSError, what: str = "written") -> str:
    if error.errno in FULL:
        return "the disk is full, free some space and start the same command again"
    return f"cannot be {what} ({error.strerror}), check the folder's permissions"


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
