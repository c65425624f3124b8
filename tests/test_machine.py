from __future__ import annotations

import os
import subprocess
import sys

from align_dist.machine import available_cores, describe_machine


def test_cores_are_those_of_the_cpuset_not_of_the_machine() -> None:
    one = min(os.sched_getaffinity(0))
    command = ["taskset", "-c", str(one), sys.executable, "-c"]
    told = subprocess.run(
        [*command, "from align_dist.machine import available_cores; print(available_cores())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "1"


def test_the_description_names_processor_and_cores() -> None:
    processor, _, cores = describe_machine().rpartition(", ")
    assert processor and cores == f"{available_cores()} of {os.cpu_count()} cores"
