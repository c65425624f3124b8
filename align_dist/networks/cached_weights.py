"""ImageNet weights in torchvision's cache, checked by hash and loaded as weights only."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch

from align_dist.errors import CheckpointError
from align_dist.files import file_sha256

REMEDY = "delete it, and it is downloaded again"
FORCED, FORBIDDEN = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def cache_of(url: str) -> Path:
    """The place of a URL's file in torch's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def fetch(url: str) -> Path:
    """The weights file of a URL, downloaded unless the file is in torch's cache.

    Raises OSError where the download fails, CheckpointError for a file with another hash.
    """
    path = cache_of(url)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    check_hash(path)
    return path


def check_hash(path: Path) -> None:
    """Raise CheckpointError where the SHA-256 does not start with the digits of the name `<name>-<digits>.<suffix>`."""
    match = re.search(r"-([a-f0-9]{8,})\.", path.name)
    if match is None:
        return
    if not file_sha256(path).startswith(match[1]):
        raise CheckpointError(f"{path}: damaged or another file (its SHA-256 does not start with {match[1]}); {REMEDY}")


@contextmanager
def weights_only_loading(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Make torch.load read tensors and plain values only, whatever the caller's arguments.

    Raises CheckpointError, with `path` and `remedy`, for a file with other content.
    """
    environment = {name: os.environ.pop(name, None) for name in (FORCED, FORBIDDEN)}
    os.environ[FORCED] = "1"
    try:
        yield
    except (pickle.UnpicklingError, EOFError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:80]
        raise CheckpointError(f"{path}: not weights of this network ({reason}); {remedy}") from None
    finally:
        os.environ.pop(FORCED)
        os.environ.update({name: value for name, value in environment.items() if value is not None})
