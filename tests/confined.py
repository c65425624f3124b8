"""Processes in a mount namespace of their own, with another /dev/shm than this machine's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping

import pytest

SMALL, READ_ONLY = "-o size=128k", "-o ro"


def run_with_shared_memory(
    mount: str, command: list[str], environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """`python COMMAND` with a /dev/shm that is mounted with these options. Skips the test where nobody may mount."""
    own = "mount -t tmpfs {} tmpfs /dev/shm && exec {}"
    if subprocess.run(["unshare", "-m", "sh", "-c", own.format(SMALL, "true")], check=False).returncode:
        pytest.skip("mounting takes root")
    script = own.format(mount, shlex.join([sys.executable, *command]))
    return subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, env=dict(environment))
