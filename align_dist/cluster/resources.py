"""What each job of a grid asks for, and the executors of submitit that give it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align_dist.errors import ConfigError, MachineError

if TYPE_CHECKING:
    from submitit import LocalExecutor, SlurmExecutor

MOST_IN_ARRAY = 1000  # Slurm's MaxArraySize is 1001 unless a cluster says otherwise


@dataclass(frozen=True)
class Resources:
    """Of one job. One task for each device. minutes: the time limit. grace: seconds before it, or before a preempted
    job's end, at which the run is told to save. setup: shell lines before srun, such as `module load cuda`. extra:
    further options of sbatch.
    """

    nodes: int = 1
    tasks_per_node: int = 1
    gpus_per_node: int = 0
    cpus_per_task: int | None = None
    minutes: int = 24 * 60
    grace: int = 120
    max_parallel: int = 256
    max_timeouts: int = 100
    memory_gb: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    dependency: str | None = None
    setup: tuple[str, ...] = ()
    extra: dict[str, str | bool] = field(default_factory=dict)

    @property
    def tasks(self) -> int:
        return self.nodes * self.tasks_per_node

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node

    @property
    def cpus(self) -> int:
        """At least: a task that asks for no number gets what the cluster gives, which is one CPU or more."""
        return self.tasks * (self.cpus_per_task or 1)


def jobs_folder(runs: Path, experiment: str) -> Path:
    """Where submitit keeps its pickles and logs. Raises ConfigError for a path that it cannot take."""
    folder = (runs / experiment / "jobs").absolute()
    if "%" in str(folder) or "\n" in str(folder):
        raise ConfigError(f"{folder}: Slurm gives % in a path a meaning of its own; choose other runs or experiment")
    return folder


def slurm_executor(folder: Path, name: str, resources: Resources) -> SlurmExecutor:
    """Jobs of these resources. Raises MachineError where there is no Slurm."""
    submitit = need_submitit()
    try:
        executor: SlurmExecutor = submitit.SlurmExecutor(folder, max_num_timeout=resources.max_timeouts)
    except RuntimeError:
        raise MachineError(
            "srun: not found; submit on a login node, run on this machine with --cluster local, or look with --plan"
        ) from None
    executor.update_parameters(**slurm_parameters(name, resources))
    return executor


def slurm_parameters(name: str, resources: Resources) -> dict[str, Any]:
    """submitit's parameters; what is None is left to the cluster."""
    further: dict[str, Any] = {"requeue": True}
    if resources.dependency:
        # Otherwise a job whose dependency failed waits for ever.
        further["kill-on-invalid-dep"] = "yes"
    told = {
        "job_name": name,
        "time": resources.minutes,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks_per_node,
        "gpus_per_node": resources.gpus_per_node or None,
        "cpus_per_task": resources.cpus_per_task,
        "mem": f"{resources.memory_gb}GB" if resources.memory_gb else None,
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "dependency": resources.dependency,
        "setup": list(resources.setup) or None,
        "signal_delay_s": resources.grace,
        "array_parallelism": resources.max_parallel,
        "stderr_to_stdout": True,
        "additional_parameters": {**further, **resources.extra},
    }
    return {key: value for key, value in told.items() if value is not None}


def submission_text(folder: Path, name: str, resources: Resources, jobs: int) -> str:
    """The sbatch file of a submission of that many jobs, to the letter; this machine needs no Slurm."""
    anywhere = {"affinity": classmethod(lambda _: 1)}  # submitit's question for srun
    planner: type[SlurmExecutor] = type("Planner", (need_submitit().SlurmExecutor,), anywhere)
    executor = planner(folder, max_num_timeout=resources.max_timeouts)
    executor.update_parameters(**slurm_parameters(name, resources))
    if jobs > 1:  # as submitit's own array executor does
        executor.parameters["map_count"] = jobs
    return executor._make_submission_file_text(executor._submitit_command_str, "")


def local_executor(folder: Path, resources: Resources) -> LocalExecutor:
    """The same jobs on this machine, all nodes' tasks on one."""
    executor: LocalExecutor = need_submitit().LocalExecutor(folder, max_num_timeout=resources.max_timeouts)
    executor.update_parameters(
        tasks_per_node=resources.tasks,
        gpus_per_node=resources.gpus_per_node,
        timeout_min=resources.minutes,
        signal_delay_s=resources.grace,
        stderr_to_stdout=True,
    )
    return executor


def need_submitit() -> Any:
    """The package. Raises MachineError where it is missing."""
    try:
        import submitit
    except ImportError:
        raise MachineError("submitit is not installed; bash launch/install.sh ffcv,embedded,lite0,submit") from None
    return submitit
