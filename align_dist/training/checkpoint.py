"""Checkpoints: one file, whole or absent, that knows nothing of ranks.

A file is a line with the SHA-256 of the rest, then `torch.save`. It is written beside, synced and renamed;
the one before is kept and used, by name and aloud, when the newest is damaged.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from align_dist.errors import CheckpointError, StorageError

NEWEST, PREVIOUS = "last.ckpt", "previous.ckpt"


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
        _sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{path}: {_remedy(error)}; what was there before is untouched") from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """`write_whole` for text."""

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_whole(path, write)


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full, free some space and start the same command again"
    return f"cannot be written ({error.strerror}), check the folder's permissions"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_weights(path: Path, state: dict[str, Any]) -> None:
    """A digest and a `torch.save` of tensors and plain values, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    digest = hashlib.sha256(payload).hexdigest().encode()

    def write(file: BinaryIO) -> None:
        file.write(digest + b"\n")
        file.write(payload)

    write_whole(path, write)


def load_weights(path: Path) -> dict[str, Any]:
    """What `save_weights` wrote, on the CPU. Raises CheckpointError when it is missing or damaged."""
    try:
        with path.open("rb") as file:
            digest, payload = file.readline().strip(), file.read()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; train first") from None
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise CheckpointError(f"{path}: damaged (its digest does not match); delete it and train again")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: holds more than tensors and plain values, refused; train again") from None
    return state


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Makes `state` the newest checkpoint of a run; the one that was newest becomes the previous."""
    newest, waiting = folder / NEWEST, folder / ".next.ckpt"
    save_weights(waiting, state)
    if newest.exists():
        os.replace(newest, folder / PREVIOUS)
    os.replace(waiting, newest)
    _sync_folder(folder)


def load_checkpoint(folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest usable checkpoint, or None when the run never saved one.

    A damaged newest is named through `say` and the previous one used. Raises CheckpointError when
    checkpoints exist and none is usable.
    """
    existing = [path for path in (folder / NEWEST, folder / PREVIOUS) if path.exists()]
    for path in existing:
        try:
            return load_weights(path)
        except CheckpointError as error:
            say(f"{error} Trying {PREVIOUS}." if path.name == NEWEST else str(error))
    if existing:
        raise CheckpointError(f"{folder}: no checkpoint is usable; delete the folder to start the run anew")
    return None
