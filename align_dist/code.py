"""Which code this is: a digest of the package's own sources, whether or not git knows them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from align_dist.errors import ConfigError

PACKAGE = Path(__file__).parent


@cache
def code_identity() -> str:
    """Twelve hexadecimal digits over every source file of the package, as it was when first asked."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def refuse_other_code(submitted: str, revision: str) -> None:
    """Raises ConfigError unless this is the code that a job was submitted with."""
    if code_identity() != submitted:
        raise ConfigError(
            f"the code in {PACKAGE} is not the one this job was submitted with (git {revision[:12]}, sources "
            f"{submitted}); bring it back, for example in a worktree of its own, or submit again"
        )
