"""Holds the run folder given as argument until its input ends."""

from __future__ import annotations

import sys
from pathlib import Path

from align_dist.runs.folder import RunFolder

with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
