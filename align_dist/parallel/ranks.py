"""The rank of this process from the environment of torchrun, Slurm (srun) or submitit, in this order.

A half-set environment is refused, because a job that silently trains N times alone costs more than one that stops.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from align_dist.errors import MachineError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
SUBMITIT = ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID", "SUBMITIT_LOCAL_JOB_ID")
# Below 32768: from there on Linux gives ports to outgoing connections, and one of them may hold the job's.
LOWEST_PORT, PORTS = 20000, 12000


@dataclass(frozen=True)
class Ranks:
    """Rank and world size; ranks start at 0. address, port: of rank 0. launcher: for messages."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    address: str = "127.0.0.1"
    port: int = 0
    launcher: str = "none"


def find_ranks(environment: Mapping[str, str]) -> Ranks:
    """Rank and world size from an environment. Raises MachineError for a half-set or inconsistent environment."""
    if any(name in environment for name in TORCHRUN[:3]):
        return _from_torchrun(environment)
    if "SLURM_STEP_NUM_TASKS" in environment:
        return _from_slurm(environment)
    if environment.get("SLURM_NTASKS") and _number(environment, "SLURM_NTASKS") > 1:
        raise MachineError(
            f"this Slurm job has {environment['SLURM_NTASKS']} tasks, but this process was not started by srun: "
            "use `srun align-dist train …`, or request one task"
        )
    if any(name in environment for name in SUBMITIT):
        return _from_submitit(environment)
    return Ranks()


def _from_torchrun(environment: Mapping[str, str]) -> Ranks:
    values = _required(environment, TORCHRUN, "torchrun", "start with torchrun, or unset these variables")
    rank, world_size, local_rank, local_world_size = (_number(values, name) for name in TORCHRUN[:4])
    return _checked(
        Ranks(
            rank,
            world_size,
            local_rank,
            local_world_size,
            values["MASTER_ADDR"],
            _number(values, "MASTER_PORT"),
            "torchrun",
        )
    )


def _from_slurm(environment: Mapping[str, str]) -> Ranks:
    """Ranks of this Slurm job step. Rank 0 is on the step's first node; the port comes from the job's number."""
    values = _required(environment, SLURM, "srun", "start with `srun align-dist train …`")
    rank, world_size, local_rank = (_number(values, name) for name in SLURM[:3])
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", str(world_size))
    local_world_size = tasks_on(tasks, _number(environment, "SLURM_NODEID") if "SLURM_NODEID" in environment else 0)
    # A single task connects to no other node.
    master = "127.0.0.1" if world_size == 1 else environment.get("MASTER_ADDR")
    address = master or _first_host(values["SLURM_STEP_NODELIST"])
    port = _port(environment, values["SLURM_JOB_ID"])
    return _checked(Ranks(rank, world_size, local_rank, local_world_size, address, port, "srun"))


def _from_submitit(environment: Mapping[str, str]) -> Ranks:
    """Ranks of submitit's local executor, on one node. submitit's Slurm jobs run under srun."""
    values = _required(environment, SUBMITIT, "submitit", "start through launch/submit.py")
    rank, world_size, local_rank = (_number(values, name) for name in SUBMITIT[:3])
    port = _port(environment, values["SUBMITIT_LOCAL_JOB_ID"])
    return _checked(Ranks(rank, world_size, local_rank, world_size, "127.0.0.1", port, "submitit"))


def tasks_on(tasks_per_node: str, node: int) -> int:
    """Number of tasks on a node, from Slurm's run-length form: `2(x3),1` is 2, 2, 2, 1.

    Raises MachineError for any other form.
    """
    counts: list[int] = []
    for part in tasks_per_node.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise MachineError(f"tasks per node: takes Slurm's form such as 2(x3),1, got {tasks_per_node!r}; use srun")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts[node] if node < len(counts) else counts[-1]


def _first_host(nodes: str) -> str:
    try:
        command = ["scontrol", "show", "hostnames", nodes]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        raise MachineError(f"scontrol cannot name the first of the nodes {nodes!r}; set MASTER_ADDR to it") from None


def _port(environment: Mapping[str, str], job: str) -> int:
    """MASTER_PORT, or a port from the job's number, which different jobs rarely share."""
    if environment.get("MASTER_PORT"):
        return _number(environment, "MASTER_PORT")
    digits = "".join(character for character in job if character.isdigit())
    return LOWEST_PORT + int(digits or 0) % PORTS


def _required(environment: Mapping[str, str], names: tuple[str, ...], launcher: str, remedy: str) -> dict[str, str]:
    missing = [name for name in names if not environment.get(name)]
    if missing:
        present = [name for name in names if name not in missing]
        raise MachineError(
            f"half-set environment of {launcher}: {', '.join(present)} set, {', '.join(missing)} missing; {remedy}"
        )
    return {name: environment[name] for name in names}


def _number(values: Mapping[str, str], name: str) -> int:
    try:
        return int(values[name])
    except ValueError:
        raise MachineError(
            f"{name}: takes a whole number, got {values[name]!r}; start with the launcher again"
        ) from None


def _checked(ranks: Ranks) -> Ranks:
    if not 0 <= ranks.rank < ranks.world_size or not 0 <= ranks.local_rank < ranks.local_world_size:
        raise MachineError(
            f"{ranks.launcher}: rank {ranks.rank} of {ranks.world_size}, local rank {ranks.local_rank} of "
            f"{ranks.local_world_size} are inconsistent; start with the launcher again"
        )
    return ranks
