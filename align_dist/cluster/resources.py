"""The resources of a grid's jobs, and submitit's executors with these resources."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align_dist.errors import ConfigError, MachineError, missing_package

if TYPE_CHECKING:
    from submitit import LocalExecutor, SlurmExecutor

MOST_IN_ARRAY = 1000  # Slurm's default MaxArraySize is 1001


@dataclass(frozen=True)
class Resources:
    """The resources of one job, with one task for each device. minutes: the time limit. grace: seconds between the
    signal to save and the time limit, or a preempted job's end. setup: shell lines before srun, such as `module load
    cuda`. extra: further options of sbatch.
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
        """A lower bound: without `cpus_per_task` a task gets the cluster's default, which is one CPU or more."""
        return self.tasks * (self.cpus_per_task or 1)


def jobs_folder(runs: Path, experiment: str) -> Path:
    """The folder of submitit's pickles and logs. Raises ConfigError for a path with characters that Slurm replaces."""
    folder = (runs / experiment / "jobs").absolute()
    if "%" in str(folder) or "\n" in str(folder):
        raise ConfigError(
            f"{folder}: Slurm replaces % in a path, and takes no line break; choose another runs or experiment"
        )
    return folder


def slurm_executor(folder: Path, name: str, resources: Resources) -> SlurmExecutor:
    """The executor of Slurm jobs with these resources. Raises MachineError where Slurm is not installed."""
    submitit = need_submitit()
    try:
        executor: SlurmExecutor = submitit.SlurmExecutor(folder, max_num_timeout=resources.max_timeouts)
    except RuntimeError:
        raise MachineError(
            "srun: not found; submit on a login node, run on this machine with --cluster local, or see --plan"
        ) from None
    executor.update_parameters(**slurm_parameters(name, resources))
    return executor


def slurm_parameters(name: str, resources: Resources) -> dict[str, Any]:
    """submitit's parameters, without those that are left to the cluster."""
    extra: dict[str, Any] = {"requeue": True}
    if resources.dependency:
        # Otherwise a job whose dependency has failed waits for ever.
        extra["kill-on-invalid-dep"] = "yes"
    parameters = {
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
        "additional_parameters": {**extra, **resources.extra},
    }
    return {key: value for key, value in parameters.items() if value is not None}


def submission_text(folder: Path, name: str, resources: Resources, jobs: int) -> str:
    """The exact sbatch file of a submission of `jobs` jobs. Needs no Slurm on this machine."""
    without_check = {"affinity": classmethod(lambda _: 1)}  # replaces submitit's check for srun
    planner: type[SlurmExecutor] = type("Planner", (need_submitit().SlurmExecutor,), without_check)
    executor = planner(folder, max_num_timeout=resources.max_timeouts)
    executor.update_parameters(**slurm_parameters(name, resources))
    if jobs > 1:  # as submitit's own array executor does
        executor.parameters["map_count"] = jobs
    return executor._make_submission_file_text(executor._submitit_command_str, "")


def local_executor(folder: Path, resources: Resources) -> LocalExecutor:
    """The executor of the same jobs on this machine, with the tasks of all nodes."""
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
    """The package submitit. Raises MachineError where submitit is not installed."""
    try:
        import submitit
    except ImportError:
        raise missing_package("submitit", "launch/submit.py", "submit") from None
    return submitit
