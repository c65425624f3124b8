"""Processes of this machine that are each other's ranks, over the loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_ranks(
    count: int, arguments: Sequence[str], added: Mapping[str, str] | None = None
) -> list[subprocess.Popen[str]]:
    """`python ARGUMENTS` once a rank, with pipes of its own. One rank is told of no others.

    added: environment variables besides this process's own.
    """
    launcher = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    started = []
    for rank in range(count):
        told = {name: str(value) for name, value in {**launcher, "RANK": rank, "LOCAL_RANK": rank}.items()}
        environment = {**os.environ, **(added or {}), **(told if count > 1 else {})}
        command = [sys.executable, *arguments]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return started
