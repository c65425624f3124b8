"""The machine a process finds itself on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def available_cores() -> int:
    """Cores this process may use: its cpuset's, not the machine's (FFCV's own count crashes there)."""
    return len(os.sched_getaffinity(0))


def describe_machine() -> str:
    """Processor and cores, as results name their hardware."""
    return f"{_processor()}, {available_cores()} of {os.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
