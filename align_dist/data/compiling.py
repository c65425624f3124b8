"""numba, as this package uses it: no reassociation, and machine code that one process makes for all later ones."""

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
    """numba, without the reassociation that FFCV's own compiler allows."""
    return numba.njit(**_SETTINGS)(function)  # type: ignore[no-any-return]


@cache
def compiled_for(function: Callable[..., Any], signature: Any) -> Callable[..., Any]:
    """`compiled`, now, for one signature; read from the user's cache where an earlier process has left it.

    Compiling takes seconds in each process, reading takes a tenth of one. Where nothing can be kept (no home, a full
    disk, a folder of someone else's), the function is compiled and works all the same.
    """
    folder = _own_folder()
    if folder is None:
        return numba.njit(signature, **_SETTINGS)(function)  # type: ignore[no-any-return]
    chosen = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    try:
        machine_code = numba.njit(cache=True, **_SETTINGS)(function)
    finally:
        numba.config.CACHE_DIR = chosen  # type: ignore[attr-defined]
    with suppress(OSError):  # raised when the code is there, and only cannot be written
        machine_code.compile(signature)
    return machine_code  # type: ignore[no-any-return]


@cache
def _own_folder() -> Path | None:
    """A folder in the user's cache for this processor and this source; None where there can be none.

    numba compares the file of a function, not those of the functions that it calls. Two processes that begin at once
    can mix up the entries of numba's index: in a folder of one processor's and one source's, they write the same ones.
    """
    told = hashlib.sha256(numba.__version__.encode())
    told.update(llvmlite.binding.get_host_cpu_name().encode())
    told.update(llvmlite.binding.get_host_cpu_features().flatten().encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        told.update(source.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(base).expanduser() / "align_dist" / "compiled" / told.hexdigest()[:16]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What is kept there is run: it must be ours.
        usable = folder.stat().st_uid == os.geteuid() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    except (OSError, RuntimeError):  # RuntimeError: nobody's home
        return None
    return folder if usable else None
