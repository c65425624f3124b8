"""Shared warm-up: trials that agree on all that acts in warm-up are one trajectory until guidance starts.

That trajectory, the trunk, is trained once; each trial begins with its checkpoint at the step where the trial's own
masker or guidance begins. The trial is then an ordinary run that resumes, equal bit for bit to the same run from
scratch, because the masker's initial weights depend on the seed alone and every draw on (seed, epoch, sample).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from align_dist.assembly import split_of, training_order
from align_dist.config import BenchmarkConfig, DataConfig, ProtocolConfig, RunConfig, parse_config
from align_dist.data.beton import verify_beton
from align_dist.data.contents import Stamp, stamp_of
from align_dist.errors import CheckpointError
from align_dist.files import locked, remove
from align_dist.methods.registry import find_method, find_options
from align_dist.runs.checkpoint import (
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
    write_checkpoint,
)
from align_dist.runs.folder import NEWEST, PREVIOUS, RunFolder
from align_dist.runs.position import Position, checkpoint_of
from align_dist.schedule import Schedule, make_schedule
from align_dist.schema.values import told_of

AGAIN = "delete it, and the same command trains the warm-up again"

Say = Callable[[str], None]
# Trains a run up to training.until, on whatever ranks the search gives its trials.
CarryOut = Callable[[RunConfig], object]


@dataclass(frozen=True)
class Branch:
    """Where a trial's own training begins: after `step` steps of the trunk in that folder (0: at the start)."""

    trunk: Path
    step: int


def trunk_of(config: RunConfig, experiment: str) -> RunConfig:
    """The run that is a trial's warm-up and nothing else, going on for the trial's whole length.

    Every setting that is silent in warm-up is put back to its default, so that trials with one warm-up have one trunk.
    """
    values = config.model_dump(mode="json")
    for key in silent_in_warmup(config.method):
        _forget(values, key.split("."))
    values["experiment"], values["variant"] = experiment, ""
    length = config.training.length
    values["training"] |= {"warmup": length, "validate_every": length, "pictures_every": length, "until": None}
    values["evaluation"] |= {"selections": ["last"]}
    return parse_config(values)


def silent_in_warmup(method: str) -> list[str]:
    """The dotted keys that change nothing before guidance starts, a whole section as one."""
    return [*_after_warmup(RunConfig, ""), *_after_warmup(find_options(method), f"{method}.")]


def _after_warmup(part: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in part.model_fields.items():
        nested = field.annotation
        if told_of(field, "after_warmup"):
            yield f"{prefix}{name}"
        elif isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _after_warmup(nested, f"{prefix}{name}.")


def _forget(values: dict[str, Any], path: list[str]) -> None:
    if len(path) == 1:
        values.pop(path[0], None)
    else:
        _forget(values[path[0]], path[1:])


def schedule_of(config: RunConfig) -> Schedule:
    """A run's schedule in steps, from its benchmark's beton. Raises a UserError where that cannot be."""
    written = stamp_of(config.benchmark.beton)
    steps = _steps_per_epoch(config.benchmark, config.protocol, config.data, written)
    schedule = make_schedule(config.training, steps)
    config.options.check(schedule.clock)
    return schedule


@lru_cache
def _steps_per_epoch(benchmark: BenchmarkConfig, protocol: ProtocolConfig, data: DataConfig, _written: Stamp) -> float:
    """Kept for as long as the beton is the same: reading it takes longer than all else that a search plans."""
    config = RunConfig(benchmark=benchmark, protocol=protocol, data=data)
    manifest = verify_beton(benchmark.beton, quick=True)
    return training_order(manifest, split_of(manifest, config), config).steps_per_epoch


def branch_step(config: RunConfig) -> int:
    """The step before which a trial is nothing but its trunk."""
    return config.options.begins(schedule_of(config).clock)


def begin_from_trunk(
    config: RunConfig, experiment: str, carry_out: CarryOut, say: Say, passing: Sequence[int] = ()
) -> Branch:
    """Gives a trial that has not begun its first checkpoint, training the trunk as far as that takes.

    passing: steps at which other trials branch off; those on the way are kept, so that no one has to go back for them.
    Trials on one trunk take turns in this, over processes and machines. A trial that has begun is left as it is.
    Raises what `carry_out` raises.
    """
    trunk, step = trunk_of(config, experiment), branch_step(config)
    branch, folder = Branch(trunk.folder, step), RunFolder(config.folder)
    if step == 0 or folder.has_checkpoint:
        return branch
    trunk.folder.mkdir(parents=True, exist_ok=True)
    with locked(trunk.folder / ".branching"):
        point = branch_path(trunk.folder, step)
        for stop in sorted({step, *passing}) if not point.exists() else ():
            if 0 < stop <= step and not branch_path(trunk.folder, stop).exists():
                say(f"{trunk.folder.name}: warm-up to step {stop}")
                _train_trunk(trunk, stop, branch_path(trunk.folder, stop), carry_out, say)
    save_checkpoint(folder.checkpoints, _first_checkpoint(config, read_checkpoint(point, AGAIN)))
    return branch


def branch_path(trunk: Path, step: int) -> Path:
    """Where a trunk keeps its state after a number of steps."""
    return trunk / "branches" / f"{step:08}.ckpt"


def _train_trunk(trunk: RunConfig, step: int, point: Path, carry_out: CarryOut, say: Say) -> None:
    """Trains to exactly `step` and keeps that state. A trunk that has gone further starts from a branch before it."""
    folder = RunFolder(trunk.folder)
    if _step_of(load_checkpoint(folder.checkpoints, say)) > step:
        _go_back(folder, step)
    carry_out(trunk.model_copy(update={"training": trunk.training.model_copy(update={"until": f"{step} steps"})}))
    state = load_checkpoint(folder.checkpoints, say)
    if state is None or _step_of(state) != step:
        raise CheckpointError(f"{folder.path}: at step {_step_of(state)}, expected {step}; delete the folder")
    write_checkpoint(point, state)


def _step_of(state: dict[str, Any] | None) -> int:
    return 0 if state is None else int(state["position"]["step"])


def _go_back(folder: RunFolder, step: int) -> None:
    """Makes the last kept state before `step` the newest checkpoint, or leaves none; the newest goes last."""
    kept = [path for path in sorted((folder.path / "branches").glob("*.ckpt")) if int(path.stem) < step]
    if kept:
        save_checkpoint(folder.checkpoints, read_checkpoint(kept[-1], AGAIN))
    for name in (PREVIOUS,) if kept else (PREVIOUS, NEWEST):
        remove(folder.checkpoints / name)


def _first_checkpoint(config: RunConfig, state: dict[str, Any]) -> dict[str, Any]:
    """The trunk's classifier and method's state under the trial's name; networks of the trial's own begin anew."""
    own = list(find_method(config.method).own_networks(config.options, schedule_of(config).clock))
    kept = {"networks": {"classifier": state["networks"]["classifier"]}, "method": state["method"]}
    first = checkpoint_of(config.identity, kept, Position(step=state["position"]["step"]))
    return first | {"untouched": own}
