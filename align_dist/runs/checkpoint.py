"""Checkpoints: one file, whole or absent, that knows nothing of ranks.

A file is a line with the SHA-256 of the rest, then `torch.save`. It is written beside, synced and renamed;
the one before is kept and used, by name and aloud, when the newest is damaged. A checkpoint holds the weights that
selections have chosen so far as well: one rename makes a run's position and its selections valid.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from align_dist.errors import CheckpointError, last_line
from align_dist.files import sync_folder, unwritable, write_atomically
from align_dist.messages import Say
from align_dist.runs.folder import NEWEST, PREVIOUS

# Of what a checkpoint holds: another number for any other form. The first ones had none.
VERSION = 3


def save_weights(path: Path, state: dict[str, Any]) -> None:
    """A digest and a `torch.save` of tensors and plain values, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    digest = hashlib.sha256(payload).hexdigest().encode()

    def write(file: BinaryIO) -> None:
        file.write(digest + b"\n")
        file.write(payload)

    write_atomically(path, write)


def load_weights(path: Path, remedy: str = "take another file, or train again") -> dict[str, Any]:
    """Load the file of `save_weights`, on the CPU.

    Raises CheckpointError, which ends in `remedy`, for a missing or damaged file.
    """
    try:
        with path.open("rb") as file:
            digest, payload = file.readline().strip(), file.read()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; {remedy}") from None
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise CheckpointError(f"{path}: damaged (its digest does not match); {remedy}")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: holds more than tensors and plain values, refused; {remedy}") from None
    except (RuntimeError, ValueError, EOFError):
        raise CheckpointError(f"{path}: not a file of this program; {remedy}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: takes a dictionary, holds {type(state).__name__}; {remedy}")
    return state


@contextmanager
def refusing_other_networks(path: Path, network: str) -> Iterator[None]:
    """Load a network's state within this context: CheckpointError where the file's network is of another form."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError) as error:
        reason = last_line(str(error))
        if not isinstance(error, KeyError) and "state_dict" not in str(error) and "state dict" not in str(error):
            raise
        raise CheckpointError(
            f"{path}: {network} is another network than the config describes ({reason}); another version of the code "
            "trained it: use that one, or train anew under another experiment=NAME"
        ) from None


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """`save_weights` with the version of the form."""
    save_weights(path, {**state, "version": VERSION})


def read_checkpoint(path: Path, remedy: str) -> dict[str, Any]:
    """Read the file of `write_checkpoint`. Raises CheckpointError, also for another version."""
    return _of_this_version(path, load_weights(path, remedy), remedy)


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Make `state` the newest checkpoint of a run; the one that was newest becomes the previous."""
    newest, waiting = folder / NEWEST, folder / ".next.ckpt"
    write_checkpoint(waiting, state)
    try:
        if newest.exists():
            os.replace(newest, folder / PREVIOUS)
        os.replace(waiting, newest)
        sync_folder(folder)
    except OSError as error:
        raise unwritable(newest, error) from None


def load_checkpoint(folder: Path, say: Say) -> dict[str, Any] | None:
    """The newest usable checkpoint, or None when the run never saved one.

    A damaged newest is named through `say` and the previous one used. Raises CheckpointError when
    checkpoints exist and none is usable, or the newest is of another version.
    """
    existing = [path for path in (folder / NEWEST, folder / PREVIOUS) if path.exists()]
    anew = f"delete {folder.parent} and the same command starts the run anew"
    for path in existing:
        try:
            state = load_weights(path, "there is no other" if path == existing[-1] else f"trying {PREVIOUS}")
        except CheckpointError as error:
            say(str(error))
        else:
            return _of_this_version(path, state, f"go on with the code that wrote it, or {anew}")
    if existing:
        raise CheckpointError(f"{folder}: no checkpoint is usable; {anew}")
    return None


def _of_this_version(path: Path, state: dict[str, Any], remedy: str) -> dict[str, Any]:
    version = state.pop("version", None)
    if version != VERSION:
        described = "of no version, as older code wrote them" if version is None else f"of version {version!r}"
        raise CheckpointError(f"{path}: a checkpoint {described}, this code takes version {VERSION}; {remedy}")
    return state
