"""What this cluster's settings would do to a job is said before there is one."""

from __future__ import annotations

import json
from pathlib import Path

from align_dist.cluster.estimate import checkpoint_bytes, network_bytes, run_bytes, step_seconds
from align_dist.cluster.survival import parse_partitions, parse_settings, slurm_findings, survival_findings
from align_dist.config import RunConfig
from align_dist.runs.folder import NEWEST, RunFolder
from align_dist.runs.metrics import IMAGES_PER_SECOND, write_metrics

SETTINGS = "PreemptType             = preempt/partition_prio\nSlurmctldParameters     = enable_configless\n"
PARTITIONS = (
    "PartitionName=low Default=YES GraceTime=20 PreemptMode=REQUEUE State=UP\n"
    "PartitionName=main Default=NO GraceTime=0 PreemptMode=OFF State=UP\n"
)


def notes(settings: str, partition: str | None, grace: float) -> list[str]:
    found = slurm_findings(parse_settings(settings), parse_partitions(PARTITIONS), partition, grace)
    return [finding.what for finding in found if finding.state != "ok"]


def test_a_cluster_that_preempts_without_a_signal_is_warned_of() -> None:
    assert "no SIGUSR2" in notes(SETTINGS, "main", 120.0)[0]
    assert notes(SETTINGS.replace("enable_configless", "preempt_send_user_signal"), "main", 120.0) == []
    assert notes("PreemptType = preempt/none\n", None, 120.0) == []


def test_the_grace_of_the_partition_that_the_job_goes_to() -> None:
    signalled = SETTINGS.replace("enable_configless", "preempt_send_user_signal")
    assert notes(signalled, None, 120.0) == ["partition low gives a preempted job 20 s, distributed.grace is 120 s"]
    assert notes(signalled, "low", 15.0) == []
    assert notes(signalled, "none", 15.0) == ["partition none: Slurm has none"]


def said(config: RunConfig, minutes: int) -> str:
    return "\n".join(f"{finding.state} {finding.what}" for finding in survival_findings(config, minutes, None))


def test_short_jobs_and_short_graces(squares: RunConfig, tmp_path: Path) -> None:
    config = squares.model_copy(update={"runs": tmp_path})
    assert "a job of 10 minutes" in said(config, 10) and "a job of" not in said(config, 11)
    assert "is the whole job" in said(config, 2)
    assert "no step was timed yet" in said(config, 60)


def test_a_grace_is_held_against_the_steps_that_were_seen(squares: RunConfig, tmp_path: Path) -> None:
    config = squares.model_copy(update={"runs": tmp_path})
    assert step_seconds(config) is None
    run = RunFolder(config.folder)
    run.begin(config)
    write_metrics(run.metrics, 4, 1.0, {IMAGES_PER_SECOND: 0.04})
    assert step_seconds(config) == 8 / 0.04
    assert "are less than a step of 200.0 s" in said(config, 600)
    patient = config.model_copy(update={"distributed": config.distributed.model_copy(update={"grace": 300.0})})
    assert "ok distributed.grace: 300 s hold a step of 200.0 s" in said(patient, 600)


def test_bytes_are_those_that_a_run_leaves(squares: RunConfig, tmp_path: Path) -> None:
    from align_dist.run import carry_out

    short = squares.training.model_copy(update={"length": "4 steps", "warmup": "2 steps"})
    config = squares.model_copy(update={"runs": tmp_path, "training": short})
    folder = carry_out(config, say=lambda _: None)
    newest = (folder.checkpoints / NEWEST).stat().st_size
    assert abs(newest - checkpoint_bytes(config, 2)) < 0.25 * newest + 60_000  # names and shapes are text
    weights = sum(network_bytes(config, 2).values())
    assert weights < run_bytes(config, 2)
    assert json.loads(folder.results.read_text().splitlines()[0])["method"] == "align"
