"""What this cluster's settings would do to a job is said before there is one."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from align_dist.cluster.estimate import checkpoint_bytes, network_bytes, run_bytes, step_seconds
from align_dist.cluster.preemption import parse_partitions, parse_settings, preemption_diagnoses, slurm_diagnoses
from align_dist.config import RunConfig, load_config
from align_dist.runs.folder import NEWEST, RunFolder
from align_dist.runs.metrics import IMAGES_PER_SECOND, write_metrics

SETTINGS = "PreemptType             = preempt/partition_prio\nSlurmctldParameters     = enable_configless\n"
PARTITIONS = (
    "PartitionName=low Default=YES GraceTime=20 PreemptMode=REQUEUE State=UP\n"
    "PartitionName=main Default=NO GraceTime=0 PreemptMode=OFF State=UP\n"
)


def notes(settings: str, partition: str | None, grace: float) -> list[str]:
    diagnoses = slurm_diagnoses(parse_settings(settings), parse_partitions(PARTITIONS), partition, grace)
    return [diagnosis.what for diagnosis in diagnoses if diagnosis.state != "ok"]


def test_a_cluster_that_preempts_without_a_signal_is_warned_of() -> None:
    assert "SIGUSR2" in notes(SETTINGS, "main", 120.0)[0]
    assert notes(SETTINGS.replace("enable_configless", "preempt_send_user_signal"), "main", 120.0) == []
    assert notes("PreemptType = preempt/none\n", None, 120.0) == []


def test_the_grace_of_the_partition_that_the_job_goes_to() -> None:
    signalled = SETTINGS.replace("enable_configless", "preempt_send_user_signal")
    (note,) = notes(signalled, None, 120.0)
    assert all(part in note for part in ("low", "20 s", "distributed.grace", "120 s"))
    assert notes(signalled, "low", 15.0) == []
    (note,) = notes(signalled, "none", 15.0)
    assert note.startswith("partition none: ")


def diagnoses_of(config: RunConfig, minutes: int, *parts: str) -> list[str]:
    """The states of the diagnoses that name all of these."""
    diagnoses = preemption_diagnoses(config, minutes, None)
    return [diagnosis.state for diagnosis in diagnoses if all(part in diagnosis.what for part in parts)]


def test_short_jobs_and_short_graces(squares: RunConfig, tmp_path: Path) -> None:
    config = squares.model_copy(update={"runs": tmp_path})
    assert diagnoses_of(config, 10, "10 minutes") == ["note"] and diagnoses_of(config, 11, "11 minutes") == []
    assert diagnoses_of(config, 2, "distributed.grace", "120 s", "2 minutes") == ["note"]
    assert diagnoses_of(config, 60, "distributed.grace", "120 s") == ["note"], "no step was timed yet"


def test_a_grace_is_held_against_the_steps_that_were_seen(squares: RunConfig, tmp_path: Path) -> None:
    config = squares.model_copy(update={"runs": tmp_path})
    assert step_seconds(config) is None
    run = RunFolder(config.folder)
    run.begin(config)
    write_metrics(run.metrics, 4, 1.0, {IMAGES_PER_SECOND: 0.04})
    assert step_seconds(config) == 8 / 0.04
    assert diagnoses_of(config, 600, "distributed.grace", "120 s", "200.0 s") == ["note"]
    patient = config.model_copy(update={"distributed": config.distributed.model_copy(update={"grace": 300.0})})
    assert diagnoses_of(patient, 600, "distributed.grace", "300 s", "200.0 s") == ["ok"]


def test_networks_that_are_not_kept_are_sized_without_a_word() -> None:
    config = load_config(Path(__file__).parents[2] / "configs" / "waterbirds.yaml", ["method=align"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sizes = network_bytes(config, 2)
    assert sizes.keys() == {"classifier", "masker"}


@pytest.mark.slow
def test_bytes_are_those_that_a_run_leaves(squares: RunConfig, tmp_path: Path) -> None:
    from align_dist.run import train_run

    short = squares.training.model_copy(update={"length": "4 steps", "warmup": "2 steps"})
    config = squares.model_copy(update={"runs": tmp_path, "training": short})
    folder = train_run(config, say=lambda _: None)
    newest = (folder.checkpoints / NEWEST).stat().st_size
    assert abs(newest - checkpoint_bytes(config, 2)) < 0.25 * newest + 60_000  # names and shapes are text
    weights = sum(network_bytes(config, 2).values())
    assert weights < run_bytes(config, 2)
    assert json.loads(folder.results.read_text().splitlines()[0])["method"] == "align"
