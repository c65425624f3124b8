"""Whether jobs would survive this cluster: its settings and theirs, looked at before any job exists."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from align_dist.cluster.estimate import UNREAD_CLASSES, checkpoint_bytes, save_seconds, step_seconds
from align_dist.config import RunConfig
from align_dist.diagnosis import Diagnosis

# submitit takes every signal for a time-out within the last ten minutes, so in such jobs always.
SHORT_MINUTES = 10


def preemption_findings(config: RunConfig | None, minutes: int | None, partition: str | None) -> Iterator[Diagnosis]:
    """What stands against a preempted, timed-out or lost job going on. minutes: its time limit, if it is known."""
    if minutes is not None:
        yield from _limit_findings(minutes, config)
    if config is not None:
        yield from _grace_findings(config)
    if shutil.which("scontrol") is None:
        return
    try:
        settings = parse_settings(_scontrol("show", "config"))
        partitions = parse_partitions(_scontrol("--oneliner", "show", "partition"))
    except (OSError, subprocess.SubprocessError) as error:
        yield Diagnosis("note", f"Slurm does not answer ({type(error).__name__})", "scontrol ping says more")
        return
    yield from slurm_findings(settings, partitions, partition, config.distributed.grace if config else 0.0)


def slurm_findings(
    settings: dict[str, str], partitions: dict[str, dict[str, str]], partition: str | None, grace: float
) -> Iterator[Diagnosis]:
    """What Slurm's own settings mean for preempted jobs. grace: seconds that the run needs."""
    if settings.get("PreemptType", "preempt/none") == "preempt/none":
        yield Diagnosis("ok", "Slurm preempts no job here")
        return
    if "preempt_send_user_signal" in settings.get("SlurmctldParameters", ""):
        yield Diagnosis("ok", "Slurm signals jobs that it preempts")
    else:
        yield Diagnosis(
            "note",
            "Slurm sends jobs that it preempts no SIGUSR2: they save and leave, and may not come back by themselves",
            "SlurmctldParameters=preempt_send_user_signal in slurm.conf, or submit again when it happened",
        )
    if partition and partition not in partitions:
        yield Diagnosis("missing", f"partition {partition}: Slurm has none", f"one of {', '.join(sorted(partitions))}")
    asked = partition or next((name for name, found in partitions.items() if found.get("Default") == "YES"), "")
    found = partitions.get(asked, {})
    given = float(found.get("GraceTime", "0"))
    if found.get("PreemptMode", "OFF") != "OFF" and given < grace:
        yield Diagnosis(
            "note",
            f"partition {asked} gives a preempted job {given:g} s, distributed.grace is {grace:g} s",
            f"GraceTime={grace:g} for that partition in slurm.conf, if a step and a save take so long",
        )


def parse_settings(text: str) -> dict[str, str]:
    """`scontrol show config`: a line `Key = value` each."""
    pairs = (line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    return {key.strip(): value.strip() for key, value in pairs}


def parse_partitions(text: str) -> dict[str, dict[str, str]]:
    """`scontrol --oneliner show partition`: words `Key=value`, a partition a line."""
    found = {}
    for line in text.splitlines():
        values = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "PartitionName" in values:
            found[values["PartitionName"]] = values
    return found


def _limit_findings(minutes: int, config: RunConfig | None) -> Iterator[Diagnosis]:
    if minutes <= SHORT_MINUTES:
        yield Diagnosis(
            "note",
            f"a job of {minutes} minutes: submitit counts each preemption as a time-out, of which it allows a number",
            "a longer time limit: more than ten minutes",
        )
    if config is not None and minutes * 60 <= config.distributed.grace:
        yield Diagnosis(
            "note",
            f"distributed.grace: {config.distributed.grace:g} s is the whole job ({minutes} minutes): it saves at once",
            "a longer time limit, or a smaller distributed.grace",
        )


def _grace_findings(config: RunConfig) -> Iterator[Diagnosis]:
    """Whether a step and a save fit into the grace period."""
    try:
        save = save_seconds(config.runs, checkpoint_bytes(config, UNREAD_CLASSES))
    except OSError as error:
        yield Diagnosis("missing", f"{config.runs}: not writable ({error.strerror})", "choose another folder for runs")
        return
    step, grace = step_seconds(config), config.distributed.grace
    if step is None:
        if save > grace:
            yield _too_short(grace, f"a save of {save:.1f} s")
        else:
            yield Diagnosis("note", f"distributed.grace: {grace:g} s, a save takes {save:.1f} s, no step was timed yet")
    elif step + save > grace:
        yield _too_short(grace, f"a step of {step:.1f} s and a save of {save:.1f} s")
    else:
        yield Diagnosis("ok", f"distributed.grace: {grace:g} s hold a step of {step:.1f} s and a save of {save:.1f} s")


def _too_short(grace: float, needed: str) -> Diagnosis:
    return Diagnosis("note", f"distributed.grace: {grace:g} s are less than {needed}", "raise distributed.grace")


def _scontrol(*arguments: str) -> str:
    command = ["scontrol", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
