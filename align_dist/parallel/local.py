"""Ranks as processes of this machine, connected over the loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence


def free_port() -> int:
    """A currently free port of the loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_ranks(
    count: int, arguments: Sequence[str], extra_environment: Mapping[str, str] | None = None
) -> list[subprocess.Popen[str]]:
    """Start `python ARGUMENTS` once per rank, with pipes for its output. A single rank gets no launcher variables.

    extra_environment: environment variables in addition to this process's environment.
    """
    launcher = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = []
    for rank in range(count):
        variables = {name: str(value) for name, value in {**launcher, "RANK": rank, "LOCAL_RANK": rank}.items()}
        environment = {**os.environ, **(extra_environment or {}), **(variables if count > 1 else {})}
        command = [sys.executable, *arguments]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return processes
