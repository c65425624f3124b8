"""ImageNet weights in torchvision's cache: of the hash in their name, and never more than weights."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch

from align_dist.errors import CheckpointError

REMEDY = "delete it, and it is downloaded anew"
FORCED, FORBIDDEN = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def fetch(url: str) -> Path:
    """The file of weights from there, downloaded where it is not in torch's cache.

    Raises OSError where it cannot be had, CheckpointError for one that is damaged or another.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    check_hash(path)
    return path


def check_hash(path: Path) -> None:
    """Raises CheckpointError for a file whose SHA-256 does not begin as its name `<name>-<digits>.<suffix>` says."""
    named = re.search(r"-([a-f0-9]{8,})\.", path.name)
    if named is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    if not digest.hexdigest().startswith(named[1]):
        raise CheckpointError(f"{path}: damaged or another file (its SHA-256 does not begin with {named[1]}); {REMEDY}")


@contextmanager
def only_weights(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """While inside, torch reads tensors and plain values and nothing that runs, whatever its callers ask for.

    Raises CheckpointError, which names `path` and ends in `remedy`, for a file that holds something else.
    """
    before = {name: os.environ.pop(name, None) for name in (FORCED, FORBIDDEN)}
    os.environ[FORCED] = "1"
    try:
        yield
    except (pickle.UnpicklingError, EOFError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:80]
        raise CheckpointError(f"{path}: holds no weights of this network ({reason}); {remedy}") from None
    finally:
        os.environ.pop(FORCED)
        os.environ.update({name: value for name, value in before.items() if value is not None})
