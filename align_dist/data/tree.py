"""Whether a beton was made of the pictures that lie under a benchmark's root."""

from __future__ import annotations

import hashlib
from pathlib import Path

from align_dist.config import BenchmarkConfig
from align_dist.data.beton import verify_beton
from align_dist.data.manifest import Manifest
from align_dist.errors import DataError

LOOKED_AT = 16


def beton_of(benchmark: BenchmarkConfig, quick: bool = True) -> Manifest:
    """The manifest of a benchmark's intact beton. Raises DataError as `verify_beton` does, and for a beton that was
    made of another tree than the one under `benchmark.root`.
    """
    manifest = verify_beton(benchmark.beton, quick)
    stranger = first_stranger(manifest, benchmark.root)
    if stranger:
        raise DataError(
            f"{benchmark.beton}: made of other pictures than those under {benchmark.root} ({stranger} is not the same);"
            " give this tree a folder of its own with benchmark.betons=FOLDER, or replace the beton with "
            "`align-dist data prepare CONFIG --force`"
        )
    return manifest


def first_stranger(manifest: Manifest, root: Path) -> str | None:
    """The first of a few stored pictures, spread evenly, that `root` holds no copy of under its path.

    A root that is not there, or is empty, says nothing: betons are used without their pictures.
    """
    if not root.is_dir() or not any(root.iterdir()):
        return None
    # Readers take some benchmarks from a folder within the root.
    places = [root, *(folder for folder in sorted(root.iterdir()) if folder.is_dir())]
    for index in range(0, len(manifest), max(1, len(manifest) // LOOKED_AT)):
        path, digest = manifest.paths[index], manifest.hashes[index]
        if not any(_digest(place / path) == digest for place in places):
            return path
    return None


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
