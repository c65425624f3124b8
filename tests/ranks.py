"""Real ranks for tests: processes that meet over gloo on the loopback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from forked import Forked

from align_dist.config import RunConfig, to_yaml
from align_dist.parallel.local import free_port

TESTS = Path(__file__).parent
LIMIT = 300
# For every process that a test starts: one thread, and the modules that tests share.
ALONE = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}


def environment_of(
    rank: int, world_size: int, port: int, address: str = "127.0.0.1", launcher: str = "torchrun"
) -> dict[str, str]:
    """What `torchrun` or `srun` would set for one rank of a single node."""
    of_torchrun = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world_size}
    of_srun = {
        "SLURM_PROCID": rank,
        "SLURM_STEP_NUM_TASKS": world_size,
        "SLURM_LOCALID": rank,
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_JOB_ID": 1,
    }
    values = of_torchrun if launcher == "torchrun" else of_srun
    common = {"MASTER_ADDR": address, "MASTER_PORT": port, **ALONE}
    return {**os.environ, **{name: str(value) for name, value in {**values, **common}.items()}}


def start_ranks(
    world_size: int,
    command: list[str],
    port: int | None = None,
    launcher: str = "torchrun",
    before: Callable[[], None] | None = None,
) -> list[Forked]:
    """`python COMMAND` once a rank; with one rank no launcher's variables are set. before: what rank 0 does first."""
    master_port = port or free_port()
    alone = {**os.environ, **ALONE}
    return [
        Forked(
            command,
            environment_of(rank, world_size, master_port, launcher=launcher) if world_size > 1 else alone,
            together=True,
            before=None if rank else before,
        )
        for rank in range(world_size)
    ]


def finish(processes: Sequence[Forked | subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and output of each; none outlives the test. All are read at once: a full pipe stops its writer."""
    with ThreadPoolExecutor(len(processes)) as readers:
        return list(readers.map(_end_of, processes))


def _end_of(process: Forked | subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output = process.communicate(timeout=LIMIT)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        output = f"{process.communicate()[0]}\nkilled after {LIMIT} s"
    return process.wait(), output


def run_ranks(world_size: int, command: list[str], launcher: str = "torchrun") -> None:
    """Runs the ranks to their end; fails with their output unless all end well."""
    results = finish(start_ranks(world_size, command, launcher=launcher))
    assert all(code == 0 for code, _ in results), "\n".join(
        f"--- rank {i}\n{out}" for i, (_, out) in enumerate(results)
    )


def described(config: RunConfig, path: Path, **distributed: object) -> RunConfig:
    """The config with its runs under `path`, written to `path`/run.yaml; a waiting rank gives up after a minute."""
    changed = config.model_copy(
        update={
            "runs": path / "runs",
            "distributed": config.distributed.model_copy(update={"timeout": 60.0, **distributed}),
        }
    )
    path.mkdir(exist_ok=True)
    (path / "run.yaml").write_text(to_yaml(changed))
    return changed
