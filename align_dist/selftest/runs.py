"""Runs of `align-dist train` in separate processes, and the distance between the results of two runs."""

from __future__ import annotations

import signal
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from align_dist.assembly import assemble, make_networks, networks_of
from align_dist.config import RunConfig, load_config
from align_dist.data.beton import verify_beton
from align_dist.errors import MachineError, last_line
from align_dist.parallel.group import Group
from align_dist.parallel.local import start_ranks
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import IMAGES_PER_SECOND, read_metrics
from align_dist.runs.selection import load_selected
from align_dist.schedule import make_schedule
from align_dist.training.batches import share_of

SECONDS = 300.0
Networks = dict[str, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class SelftestRun:
    """A run on the synthetic images. name: the experiment. overrides: dotted overrides. ranks: the world size."""

    base: Path
    name: str
    overrides: tuple[str, ...] = ()
    ranks: int = 1

    @property
    def arguments(self) -> list[str]:
        """Arguments of Python for the run's `align-dist train` command."""
        return ["-m", "align_dist.cli", "train", str(self.base), f"experiment={self.name}", *self.overrides]

    @property
    def config(self) -> RunConfig:
        return load_config(self.base, [f"experiment={self.name}", *self.overrides])


def finish(run: SelftestRun) -> None:
    """Train and evaluate a run to its end. Raises MachineError with the last line of a rank that failed."""
    _wait(run, start_ranks(run.ranks, run.arguments))


def kill_and_finish(run: SelftestRun) -> None:
    """Kill a run at its first checkpoint and run the same command again. Raises MachineError as `finish` does."""
    (process,) = start_ranks(1, run.arguments)
    end = time.monotonic() + SECONDS
    while process.poll() is None and not _has_saved(run) and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    _, errors = process.communicate()
    if process.returncode != -signal.SIGKILL or not _has_saved(run):
        raise MachineError(f"could not be killed at its first checkpoint: {last_line(errors)}")
    finish(run)


def _has_saved(run: SelftestRun) -> bool:
    return folder_of(run).has_checkpoint


def folder_of(run: SelftestRun) -> RunFolder:
    """The folder of a run, the only one of its experiment."""
    config = run.config
    folders = sorted((config.runs / config.experiment).glob("*/"))
    return RunFolder(folders[0] if folders else config.folder)


def weights_of(run: SelftestRun) -> Networks:
    """The trained weights of a finished run, by network."""
    networks: Networks = load_selected(folder_of(run).selected, "last")["networks"]
    return networks


def images_per_second(run: SelftestRun) -> float:
    """Median speed over a finished run's records."""
    speeds = [record.values.get(IMAGES_PER_SECOND) for record in read_metrics(folder_of(run).metrics)]
    return float(statistics.median([speed for speed in speeds if speed is not None]))


def distance(run: SelftestRun, other: SelftestRun) -> float:
    """Distance between two runs' weights over the distance that training moved the second's; the largest network's."""
    config = other.config
    classes = verify_beton(config.benchmark.beton, quick=True).classes
    trainable_networks = networks_of(config, len(classes), make_schedule(config.training, 1.0).clock)
    start = make_networks(config, trainable_networks, torch.device("cpu"), Group())
    weights, reference, shares = weights_of(run), weights_of(other), []
    for name, engine in start.items():
        moved = _norm(reference[name], engine.weights())
        shares.append(_norm(weights[name], reference[name]) / max(moved, 1e-12))
    return max(shares)


def loss_difference(run: SelftestRun, other: SelftestRun) -> float:
    """Largest relative difference between two runs' loss terms, over the steps up to the end of warm-up."""
    terms, reference = _terms(run), _terms(other)
    return max(abs(terms[key] - value) / max(abs(value), 1e-3) for key, value in reference.items())


def _terms(run: SelftestRun) -> dict[tuple[int, str], float]:
    """Loss terms of a finished run up to the end of warm-up, by step and name."""
    warmup = int(run.config.training.warmup.split()[0])
    return {
        (record.step, name): value
        for record in read_metrics(folder_of(run).metrics)
        for name, value in record.values.items()
        if record.step <= warmup and name.partition("/")[0] in ("classifier", "masker") and "gradient" not in name
    }


def train_without_waiting(selftest_run: SelftestRun) -> None:
    """Train in this process through every phase while torch raises where the host waits for the device."""
    run = assemble(selftest_run.config)
    batches = run.loader.shares(lambda step: share_of(run, run.order.batch(step), step), run.schedule.length)
    for step, batch in enumerate(batches):
        # The first steps of each phase choose algorithms and create the optimisers' states.
        starts = [*(network.start for network in run.trainable_networks.values()), run.schedule.warmup]
        settled = step >= 2 and all(not 0 <= step - start < 2 for start in starts)
        torch.cuda.set_sync_debug_mode("error" if settled else "default")
        try:
            run.method.step(batch, step)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _norm(weights: dict[str, Any], reference: dict[str, Any]) -> float:
    squares = [(weights[name].double().cpu() - reference[name].double().cpu()).square().sum() for name in reference]
    return float(torch.stack(squares).sum().sqrt())


def _wait(run: SelftestRun, processes: Sequence[subprocess.Popen[str]]) -> None:
    end = time.monotonic() + SECONDS
    try:
        outputs = [process.communicate(timeout=max(end - time.monotonic(), 1.0)) for process in processes]
    except subprocess.TimeoutExpired:
        raise MachineError(f"{run.name}: not done after {SECONDS:.0f} s") from None
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        if process.returncode:
            raise MachineError(f"exit code {process.returncode}: {last_line(errors)}")
