"""Provenance of a run: the code, the packages and the machine of each of its starts."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from align_dist.errors import ConfigError
from align_dist.machine import describe_machine

SOURCES = Path(__file__).parents[1]
PACKAGES = ("torch", "torchvision", "numpy", "ffcv", "numba", "align_dist")


@cache
def code_identity() -> str:
    """Twelve hexadecimal digits over every source file of the package, as it was when first asked.

    Unlike a git revision the digest is there whether or not git knows the files.
    """
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(SOURCES).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def refuse_other_code(submitted: str, revision: str) -> None:
    """Raise ConfigError unless this is the code that a job was submitted with."""
    if code_identity() != submitted:
        raise ConfigError(
            f"the code in {SOURCES} is not the one this job was submitted with (git {revision[:12]}, sources "
            f"{submitted}); bring it back, for example in a worktree of its own, or submit again"
        )


def read_starts(path: Path) -> list[dict[str, Any]]:
    """The starts an environment.json records, oldest first; none where it is missing, damaged or of another form."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [start for start in content if isinstance(start, dict)] if isinstance(content, list) else []


def environment(ranks: int = 1) -> dict[str, Any]:
    """The environment of a start of a run: command, code, packages, machine; no environment variables."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "revision": revision(),
        "python": sys.version.split()[0],
        "packages": versions,
        "machine": describe_machine(),
        "ranks": ranks,
    }


def revision() -> str:
    """The git commit of the code, with `+changes` when the checkout is not clean, or `unknown`."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(SOURCES), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
