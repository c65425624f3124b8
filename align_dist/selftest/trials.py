"""Runs of `align-dist train` in processes of their own, and how far two of them ended from each other."""

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

from align_dist.assembly import assemble, learners_of, make_networks
from align_dist.config import RunConfig, load_config
from align_dist.data.beton import verify_beton
from align_dist.errors import MachineError
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
class Trial:
    """A run of the made-up pictures. name: its experiment's. overrides: what it does otherwise. ranks: on how many."""

    base: Path
    name: str
    overrides: tuple[str, ...] = ()
    ranks: int = 1

    @property
    def arguments(self) -> list[str]:
        """Of Python: this run, by the command that a user would give."""
        return ["-m", "align_dist.cli", "train", str(self.base), f"experiment={self.name}", *self.overrides]

    @property
    def config(self) -> RunConfig:
        return load_config(self.base, [f"experiment={self.name}", *self.overrides])


def finish(trial: Trial) -> None:
    """Runs a trial to its end. Raises MachineError with the last line of a rank that did not end well."""
    _wait(trial, start_ranks(trial.ranks, trial.arguments))


def kill_and_finish(trial: Trial) -> None:
    """Kills a trial at its first checkpoint and runs the same command again. Raises MachineError as `finish` does."""
    (process,) = start_ranks(1, trial.arguments)
    end = time.monotonic() + SECONDS
    while process.poll() is None and not _has_saved(trial) and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    _, errors = process.communicate()
    if process.returncode != -signal.SIGKILL or not _has_saved(trial):
        raise MachineError(f"could not be killed at its first checkpoint: {_last_line(errors)}")
    finish(trial)


def _has_saved(trial: Trial) -> bool:
    return folder_of(trial).has_checkpoint


def folder_of(trial: Trial) -> RunFolder:
    """Where a trial's run lives: the only one of its experiment."""
    config = trial.config
    found = sorted((config.runs / config.experiment).glob("*/"))
    return RunFolder(found[0] if found else config.folder)


def weights_of(trial: Trial) -> Networks:
    """What a finished trial trained, by network."""
    networks: Networks = load_selected(folder_of(trial).selected, "last")["networks"]
    return networks


def images_per_second(trial: Trial) -> float:
    """The median over a finished trial's records."""
    speeds = [record.values.get(IMAGES_PER_SECOND) for record in read_metrics(folder_of(trial).metrics)]
    return float(statistics.median([speed for speed in speeds if speed is not None]))


def distance(trial: Trial, other: Trial) -> float:
    """The largest, over networks, of how far two runs ended apart, as a share of how far training moved the second."""
    config = other.config
    classes = verify_beton(config.benchmark.beton, quick=True).classes
    learners = learners_of(config, len(classes), make_schedule(config.training, 1.0))
    start = make_networks(config, learners, torch.device("cpu"), Group())
    found, wanted, shares = weights_of(trial), weights_of(other), []
    for name, engine in start.items():
        moved = _norm(wanted[name], engine.weights())
        shares.append(_norm(found[name], wanted[name]) / max(moved, 1e-12))
    return max(shares)


def terms_apart(trial: Trial, other: Trial) -> float:
    """The largest difference of a loss's term in any step up to the end of warm-up, as a share of the second run's."""
    found, wanted = _terms(trial), _terms(other)
    return max(abs(found[key] - value) / max(abs(value), 1e-3) for key, value in wanted.items())


def _terms(trial: Trial) -> dict[tuple[int, str], float]:
    """What a finished trial recorded of its losses, by step and name."""
    warmup = int(trial.config.training.warmup.split()[0])
    return {
        (record.step, name): value
        for record in read_metrics(folder_of(trial).metrics)
        for name, value in record.values.items()
        if record.step <= warmup and name.partition("/")[0] in ("classifier", "masker") and "gradient" not in name
    }


def without_waiting(trial: Trial) -> None:
    """Takes steps of every phase in this process while torch forbids the host to wait for the device."""
    run = assemble(trial.config)
    batches = run.loader.shares(lambda step: share_of(run, run.order.batch(step), step), run.schedule.length)
    for step, batch in enumerate(batches):
        # The first steps of each phase choose algorithms and make the optimisers' states.
        phase = [*(learner.start for learner in run.learners.values()), run.schedule.warmup]
        settled = step >= 2 and all(not 0 <= step - start < 2 for start in phase)
        torch.cuda.set_sync_debug_mode("error" if settled else "default")
        try:
            run.method.step(batch, step)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _norm(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    squares = [(found[name].double().cpu() - wanted[name].double().cpu()).square().sum() for name in wanted]
    return float(torch.stack(squares).sum().sqrt())


def _wait(trial: Trial, processes: Sequence[subprocess.Popen[str]]) -> None:
    end = time.monotonic() + SECONDS
    try:
        said = [process.communicate(timeout=max(end - time.monotonic(), 1.0)) for process in processes]
    except subprocess.TimeoutExpired:
        raise MachineError(f"{trial.name}: not done after {SECONDS:.0f} s") from None
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, said, strict=True):
        if process.returncode:
            raise MachineError(f"exit code {process.returncode}: {_last_line(errors)}")


def _last_line(errors: str) -> str:
    lines = errors.strip().splitlines()
    return lines[-1] if lines else "no word"
