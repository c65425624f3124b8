"""`align-dist selftest`: short runs on every device and engine that is here, held against each other.

The first to see a machine's accelerator may be a user. Every check is one line; all of them, with what the machine is,
are one file to send.
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
from align_dist.doctor import findings
from align_dist.errors import MachineError, UserError
from align_dist.files import write_text
from align_dist.runs.provenance import environment
from align_dist.selftest.made import make_run
from align_dist.selftest.trials import (
    Trial,
    distance,
    finish,
    images_per_second,
    kill_and_finish,
    terms_apart,
    without_waiting,
)

# How far a run may end from the one it is held against, as a share of how far training moved the weights: rounding
# grows over the steps (a maximum that two cells all but share goes to the other one), and another device adds up in
# another order.
EXACT, ROUNDING, DEVICE = 0.0, 0.02, 0.03
# How far a term of a loss may be from float32's, as a share: bfloat16 has eight bits.
BFLOAT16 = 0.1


@dataclass(frozen=True)
class Check:
    """state: `ok`, `failed`, or `note` for what cannot be tried here."""

    name: str
    state: str
    told: str

    def __str__(self) -> str:
        """A line."""
        return f"{self.state:8}{self.name}: {self.told}"


def selftest(destination: Path) -> int:
    """Prints a line a check and writes them to `destination`; 0 where none failed, else MachineError's exit code."""
    done: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="align-dist-selftest-") as folder:
        base = make_run(Path(folder))
        prepare(Trial(base, "reference").config.benchmark)
        for check in checks(base):
            print(check, flush=True)
            done.append(check)
    told = {
        "checks": [asdict(check) for check in done],
        "environment": environment(),
        "findings": [str(finding) for finding in findings(None)],
    }
    write_text(destination, json.dumps(told, indent=1) + "\n")
    print(f"all of it, to send: {destination}")
    return MachineError.exit_code if any(check.state == "failed" for check in done) else 0


def checks(base: Path) -> Iterator[Check]:
    """Every check that this machine allows, one after another. base: the YAML of a run on the CPU."""
    cpu = Trial(base, "cpu")
    yield _tried("cpu, plain engine, float32", lambda: _ended(cpu))
    yield _in_bfloat16(cpu)
    yield from _engines(cpu, "gloo", ranks=2, tolerance=ROUNDING)
    yield _held(replace(cpu, name="cpu-killed-and-resumed"), cpu, EXACT, kill_and_finish)
    if not torch.cuda.is_available():
        yield Check("cuda", "note", "torch sees no CUDA device: nothing of CUDA, NCCL or pinned memory was tried")
        return
    cuda, devices = Trial(base, "cuda", ("training.device=cuda",)), torch.cuda.device_count()
    yield _held(cuda, cpu, DEVICE)
    yield _in_bfloat16(cuda)
    yield _tried("cuda, no step waits for the host", lambda: _not_waiting(cuda))
    yield from _engines(cuda, "NCCL", ranks=devices, tolerance=DEVICE)
    yield _held(replace(cuda, name="cuda-killed-and-resumed"), cuda, DEVICE, kill_and_finish)


def _engines(plain: Trial, backend: str, ranks: int, tolerance: float) -> Iterator[Check]:
    """DDP and ZeRO-1 over all local devices, against the plain engine on one."""
    for engine in ("ddp", "deepspeed"):
        settings = [f"distributed.engine={engine}", f"distributed.deepspeed={plain.base.parent / 'zero1.json'}"]
        name = f"{plain.name}-{engine}-{ranks}-ranks-{backend}"
        if engine == "deepspeed" and util.find_spec("deepspeed") is None:
            yield Check(name, "note", "deepspeed is not installed: run `bash launch/install.sh ffcv,deepspeed`")
            continue
        yield _held(replace(plain, name=name, overrides=(*plain.overrides, *settings), ranks=ranks), plain, tolerance)


def _held(trial: Trial, against: Trial, tolerance: float, run: Callable[[Trial], None] = finish) -> Check:
    """A run to its end, and how far from another one it ended."""

    def work() -> str:
        run(trial)
        return _near(trial, against, tolerance)

    return _tried(trial.name, work)


def _in_bfloat16(against: Trial) -> Check:
    """A run in bfloat16, and how far its losses are from float32's; where its weights end is chance."""
    precision = (*against.overrides, "training.precision=bfloat16")
    trial = replace(against, name=f"{against.name}-bfloat16", overrides=precision)

    def work() -> str:
        finish(trial)
        found = terms_apart(trial, against)
        told = f"losses {found:.2g} from {against.name}'s (at most {BFLOAT16:g})"
        if not found <= BFLOAT16:
            raise MachineError(told)
        return f"{told}, {images_per_second(trial):,.0f} images/s"

    return _tried(trial.name, work)


def _near(trial: Trial, against: Trial, tolerance: float) -> str:
    found = distance(trial, against)
    told = f"ended {found:.2g} of training's way from {against.name} (at most {tolerance:g})"
    if not found <= tolerance:
        raise MachineError(told)
    return f"{told}, {images_per_second(trial):,.0f} images/s"


def _ended(trial: Trial) -> str:
    finish(trial)
    return f"trained and evaluated, {images_per_second(trial):,.0f} images/s"


def _not_waiting(trial: Trial) -> str:
    without_waiting(trial)
    return "in warm-up, with the masker's head start, and guided"


def _tried(name: str, work: Callable[[], str]) -> Check:
    """Whatever goes wrong in a check is its line, and the next one is tried."""
    try:
        return Check(name, "ok", work())
    except UserError as error:
        return Check(name, "failed", str(error))
    except Exception as error:  # torch's own, of a device that nobody has seen yet
        return Check(name, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
