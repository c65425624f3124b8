"""Diagnoses of preemption, time limits and grace periods, from the settings of the cluster and of the jobs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from align_dist.cluster.estimate import ASSUMED_CLASSES, checkpoint_bytes, save_seconds, step_seconds
from align_dist.config import RunConfig
from align_dist.diagnosis import Diagnosis
from align_dist.errors import first_line

# submitit takes every signal within a job's last ten minutes for a time-out: in a job this short, every signal.
SHORT_MINUTES = 10


def preemption_diagnoses(config: RunConfig | None, minutes: int | None, partition: str | None) -> Iterator[Diagnosis]:
    """Diagnoses of whether a preempted, timed-out or lost job resumes. minutes: the time limit; None where unknown."""
    if minutes is not None:
        yield from _limit_diagnoses(minutes, config)
    if config is not None:
        yield from _grace_diagnoses(config)
    if shutil.which("scontrol") is None:
        return
    try:
        settings = parse_settings(_scontrol("show", "config"))
        partitions = parse_partitions(_scontrol("--oneliner", "show", "partition"))
    except (OSError, subprocess.SubprocessError) as error:
        yield Diagnosis("note", f"Slurm does not answer ({first_line(error)})", "try scontrol ping")
        return
    yield from slurm_diagnoses(settings, partitions, partition, config.distributed.grace if config else 0.0)


def slurm_diagnoses(
    settings: dict[str, str], partitions: dict[str, dict[str, str]], partition: str | None, grace: float
) -> Iterator[Diagnosis]:
    """Diagnoses of Slurm's own settings for preempted jobs. grace: seconds that the run needs."""
    if settings.get("PreemptType", "preempt/none") == "preempt/none":
        yield Diagnosis("ok", "Slurm preempts no job here")
        return
    if "preempt_send_user_signal" in settings.get("SlurmctldParameters", ""):
        yield Diagnosis("ok", "Slurm signals jobs that it preempts")
    else:
        yield Diagnosis(
            "note",
            "Slurm sends no SIGUSR2 to jobs that it preempts: the jobs save and end, and may not be requeued",
            "set SlurmctldParameters=preempt_send_user_signal in slurm.conf, or submit again after a preemption",
        )
    if partition and partition not in partitions:
        yield Diagnosis("missing", f"partition {partition}: unknown to Slurm", f"take {', '.join(sorted(partitions))}")
    name = partition or next((name for name, values in partitions.items() if values.get("Default") == "YES"), "")
    values = partitions.get(name, {})
    grace_time = float(values.get("GraceTime", "0"))
    if values.get("PreemptMode", "OFF") != "OFF" and grace_time < grace:
        yield Diagnosis(
            "note",
            f"partition {name} gives a preempted job {grace_time:g} s, distributed.grace is {grace:g} s",
            f"set GraceTime={grace:g} for this partition in slurm.conf if a step and a save take that long",
        )


def parse_settings(text: str) -> dict[str, str]:
    """Values by key from `scontrol show config`, which prints a line `Key = value` for each."""
    pairs = (line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    return {key.strip(): value.strip() for key, value in pairs}


def parse_partitions(text: str) -> dict[str, dict[str, str]]:
    """Values by partition and key from `scontrol --oneliner show partition`: a line of `Key=value` for each."""
    partitions = {}
    for line in text.splitlines():
        values = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "PartitionName" in values:
            partitions[values["PartitionName"]] = values
    return partitions


def _limit_diagnoses(minutes: int, config: RunConfig | None) -> Iterator[Diagnosis]:
    if minutes <= SHORT_MINUTES:
        yield Diagnosis(
            "note",
            f"a job of {minutes} minutes: submitit counts each preemption as a time-out (see --max-timeouts)",
            "set a limit of more than ten minutes",
        )
    if config is not None and minutes * 60 <= config.distributed.grace:
        yield Diagnosis(
            "note",
            f"distributed.grace: {config.distributed.grace:g} s is all of the {minutes} minutes: it saves at once",
            "set a longer time limit, or a smaller distributed.grace",
        )


def _grace_diagnoses(config: RunConfig) -> Iterator[Diagnosis]:
    """Diagnoses of whether a step and a save fit into the grace period."""
    try:
        save = save_seconds(config.runs, checkpoint_bytes(config, ASSUMED_CLASSES))
    except OSError as error:
        yield Diagnosis("missing", f"{config.runs}: not writable ({error.strerror})", "choose another folder for runs")
        return
    step, grace = step_seconds(config), config.distributed.grace
    if step is None:
        if save > grace:
            yield _too_short(grace, f"a save of {save:.1f} s")
        else:
            yield Diagnosis(
                "note", f"distributed.grace: {grace:g} s, a save takes {save:.1f} s, no step has been timed yet"
            )
    elif step + save > grace:
        yield _too_short(grace, f"a step of {step:.1f} s and a save of {save:.1f} s")
    else:
        yield Diagnosis(
            "ok", f"distributed.grace: {grace:g} s are enough for a step of {step:.1f} s and a save of {save:.1f} s"
        )


def _too_short(grace: float, duration: str) -> Diagnosis:
    return Diagnosis("note", f"distributed.grace: {grace:g} s are less than {duration}", "raise distributed.grace")


def _scontrol(*arguments: str) -> str:
    command = ["scontrol", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
