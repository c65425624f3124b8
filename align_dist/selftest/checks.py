"""`align-dist selftest`: short runs on every available device and engine, compared with each other.

A user may be the first to run on a new accelerator. Every check prints one line; one file holds all checks and the
environment, to be sent to the developers.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import util
from pathlib import Path

import torch

from align_dist.data.prepare import prepare
from align_dist.doctor import diagnoses
from align_dist.errors import MachineError, UserError, missing_package
from align_dist.files import write_text
from align_dist.runs.provenance import environment
from align_dist.selftest.runs import (
    SelftestRun,
    distance,
    finish,
    images_per_second,
    kill_and_finish,
    loss_difference,
    train_without_waiting,
)
from align_dist.selftest.synthetic import make_run

# Largest distance between two runs' weights, as a share of how far training moved the weights. Rounding errors grow
# over the steps (a maximum may switch between two nearly equal cells), and another device sums in another order.
EXACT, ROUNDING, DEVICE = 0.0, 0.02, 0.03
# Largest relative difference of a loss term from float32: bfloat16 has eight bits.
BFLOAT16 = 0.1


@dataclass(frozen=True)
class Check:
    """state: `ok`, `failed`, or `note` for a check that this machine cannot run."""

    name: str
    state: str
    told: str

    def __str__(self) -> str:
        """The state, the name and the message in one line."""
        return f"{self.state:8}{self.name}: {self.told}"


def selftest(destination: Path) -> int:
    """Print one line per check and write all to `destination`; 0 where none failed, else MachineError's exit code."""
    results: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="align-dist-selftest-") as folder:
        base = make_run(Path(folder))
        prepare(SelftestRun(base, "reference").config.benchmark)
        for check in checks(base):
            print(check, flush=True)
            results.append(check)
    report = {
        "checks": [asdict(check) for check in results],
        "environment": environment(),
        "diagnoses": [str(diagnosis) for diagnosis in diagnoses(None)],
    }
    write_text(destination, json.dumps(report, indent=1) + "\n")
    print(f"report to send: {destination}")
    return MachineError.exit_code if any(check.state == "failed" for check in results) else 0


def checks(base: Path) -> Iterator[Check]:
    """Every check that this machine allows, one after another. base: the YAML of a run on the CPU."""
    cpu = SelftestRun(base, "cpu")
    yield _tried("cpu, plain engine, float32", lambda: _ended(cpu))
    yield _in_bfloat16(cpu)
    yield from _engines(cpu, "gloo", ranks=2, tolerance=ROUNDING)
    yield _held(replace(cpu, name="cpu-killed-and-resumed"), cpu, EXACT, kill_and_finish)
    if not torch.cuda.is_available():
        yield Check("cuda", "note", "torch sees no CUDA device: CUDA, NCCL and pinned memory were not tested")
        return
    cuda, devices = SelftestRun(base, "cuda", ("training.device=cuda",)), torch.cuda.device_count()
    yield _held(cuda, cpu, DEVICE)
    yield _in_bfloat16(cuda)
    yield _tried("cuda, no step waits for the host", lambda: _not_waiting(cuda))
    yield from _engines(cuda, "NCCL", ranks=devices, tolerance=DEVICE)
    yield _held(replace(cuda, name="cuda-killed-and-resumed"), cuda, DEVICE, kill_and_finish)


def _engines(plain: SelftestRun, backend: str, ranks: int, tolerance: float) -> Iterator[Check]:
    """DDP and ZeRO-1 over all local devices, against the plain engine on one."""
    for engine in ("ddp", "deepspeed"):
        settings = [f"distributed.engine={engine}", f"distributed.deepspeed={plain.base.parent / 'zero1.json'}"]
        name = f"{plain.name}-{engine}-{ranks}-ranks-{backend}"
        if engine == "deepspeed" and util.find_spec("deepspeed") is None:
            yield Check(name, "note", str(missing_package("deepspeed", engine, "deepspeed")))
            continue
        yield _held(replace(plain, name=name, overrides=(*plain.overrides, *settings), ranks=ranks), plain, tolerance)


def _held(
    run: SelftestRun, against: SelftestRun, tolerance: float, execute: Callable[[SelftestRun], None] = finish
) -> Check:
    """Finish a run and compare its weights with another run's."""

    def work() -> str:
        execute(run)
        return _near(run, against, tolerance)

    return _tried(run.name, work)


def _in_bfloat16(against: SelftestRun) -> Check:
    """Finish a run in bfloat16 and compare its losses with float32's; its weights would differ by chance."""
    precision = (*against.overrides, "training.precision=bfloat16")
    run = replace(against, name=f"{against.name}-bfloat16", overrides=precision)

    def work() -> str:
        finish(run)
        difference = loss_difference(run, against)
        message = f"losses {difference:.2g} from {against.name}'s (at most {BFLOAT16:g})"
        if not difference <= BFLOAT16:
            raise MachineError(message)
        return f"{message}, {images_per_second(run):,.0f} images/s"

    return _tried(run.name, work)


def _near(run: SelftestRun, against: SelftestRun, tolerance: float) -> str:
    difference = distance(run, against)
    message = (
        f"weights differ from {against.name}'s by {difference:.2g} of the training's change (at most {tolerance:g})"
    )
    if not difference <= tolerance:
        raise MachineError(message)
    return f"{message}, {images_per_second(run):,.0f} images/s"


def _ended(run: SelftestRun) -> str:
    finish(run)
    return f"trained and evaluated, {images_per_second(run):,.0f} images/s"


def _not_waiting(run: SelftestRun) -> str:
    train_without_waiting(run)
    return "in warm-up, with the masker's head start, and guided"


def _tried(name: str, work: Callable[[], str]) -> Check:
    """Run a check; an error becomes the check's line, and the next check runs."""
    try:
        return Check(name, "ok", work())
    except UserError as error:
        return Check(name, "failed", str(error))
    except Exception as error:  # torch's errors on an unknown device
        return Check(name, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
