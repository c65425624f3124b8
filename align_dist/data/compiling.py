"""numba compilation without reassociation, with machine code cached across processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding
import numba

_F = TypeVar("_F", bound=Callable[..., Any])
_SETTINGS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy", "inline": "never"}


def compiled(function: _F) -> _F:
    """Compile with numba, without the reassociation that FFCV's compiler allows."""
    return numba.njit(**_SETTINGS)(function)  # type: ignore[no-any-return]


@cache
def compiled_for(function: Callable[..., Any], signature: Any) -> Callable[..., Any]:
    """Compile for one signature right away, or load the machine code from the user's cache.

    Compiling takes seconds per process, loading a tenth of a second. Without a usable cache (no home folder, a full
    disk, a folder of another user) the function is compiled all the same.
    """
    folder = _own_folder()
    if folder is None:
        return numba.njit(signature, **_SETTINGS)(function)  # type: ignore[no-any-return]
    cache_dir = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    try:
        machine_code = numba.njit(cache=True, **_SETTINGS)(function)
    finally:
        numba.config.CACHE_DIR = cache_dir  # type: ignore[attr-defined]
    with suppress(OSError):  # raised when the code is compiled and only cannot be written
        machine_code.compile(signature)
    return machine_code  # type: ignore[no-any-return]


@cache
def _own_folder() -> Path | None:
    """A cache folder for this processor and this version of the source; None where no folder is usable.

    numba compares the source file of a function, but not the files of the functions called. Two processes that start
    together may mix up the entries of numba's index; in a folder for one processor and source the entries are equal.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    digest.update(llvmlite.binding.get_host_cpu_name().encode())
    digest.update(llvmlite.binding.get_host_cpu_features().flatten().encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(base).expanduser() / "align_dist" / "compiled" / digest.hexdigest()[:16]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Code in the folder is executed, so the folder must belong to this user.
        usable = folder.stat().st_uid == os.geteuid() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None
    return folder if usable else None
