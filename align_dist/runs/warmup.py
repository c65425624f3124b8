"""Shared warm-up: runs that agree on all that acts in warm-up are one trajectory until guidance starts.

That trajectory, the trunk, is trained once, in a run folder of its own below `<experiment>/warmups`; each run begins
with its checkpoint at the step where the run's own masker or guidance begins. The run is then one that resumes, equal
bit for bit to the same run from scratch, because a network's initial weights depend on the seed alone and every draw on
(seed, epoch, sample).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from align_dist.config import RunConfig, parse_config
from align_dist.errors import CheckpointError, ConfigError
from align_dist.files import remove
from align_dist.messages import say_nothing
from align_dist.methods.base import find_method
from align_dist.options.registry import METHODS, find_options
from align_dist.runs.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint, write_checkpoint
from align_dist.runs.folder import NEWEST, PREVIOUS, WARMUPS, RunFolder
from align_dist.runs.metrics import copy_metrics
from align_dist.runs.position import Position, checkpoint_of
from align_dist.schema.values import option_metadata
from align_dist.training_plan import schedule_of

REMEDY = "delete the file, and the same command trains the warm-up again"


@dataclass(frozen=True)
class Warmup:
    """A run's shared warm-up: the run that trains it, and the step before which both are the same (0: none)."""

    trunk: RunConfig
    step: int

    @property
    def path(self) -> Path:
        """The state after `step` steps, where it is kept."""
        return _kept(self.trunk.folder, self.step)


def warmup_of(config: RunConfig) -> Warmup:
    """The warm-up that a run may share. Raises a UserError where there is no such run."""
    return Warmup(trunk_of(config), branch_step(config))


def trunk_of(config: RunConfig) -> RunConfig:
    """The run that is another one's warm-up and nothing else, for that run's whole length.

    Every setting that is silent in warm-up has its default, so that runs with one warm-up have one trunk; it is ERM's
    where the method does nothing of its own in warm-up.
    """
    own = config.with_method("erm") if config.options.has_erm_warmup else config
    values = own.with_own_options_only().model_dump(mode="json")
    for key in silent_in_warmup(own.method):
        _forget(values, key.split("."))
    values["experiment"], values["variant"] = f"{config.experiment}/{WARMUPS}", ""
    length = config.training.length
    values["training"] |= {"warmup": length, "pictures_every": length, "until": None}
    values["evaluation"] |= {"selections": ["last"]}
    return parse_config(values)


def branch_step(config: RunConfig) -> int:
    """The step before which a run is nothing but its warm-up: its last at most, which the run itself has to take and
    validate.
    """
    clock = schedule_of(config).clock
    # A method without options is its own warm-up, and others': it leaves the trunk where they may.
    step = config.options.shared_warmup(clock) if type(config.options).model_fields else clock.warmup
    return min(step, clock.length - 1)


def branch_steps(config: RunConfig) -> set[int]:
    """The steps before which runs of any method, described by the same settings, leave the warm-up of this run.

    A trunk that keeps its state there serves a grid over methods without going back, whichever cell comes first.
    """
    trunk, steps = trunk_of(config).folder, set[int]()
    for method in METHODS:
        with suppress(ConfigError):  # the section of a method that nobody may run can be impossible
            other = config.with_method(method)
            if trunk_of(other).folder == trunk:
                steps.add(branch_step(other))
    return steps


@dataclass(frozen=True)
class Cost:
    """Epochs of training. sharing: each warm-up once, and each run from there on. alone: every run from scratch."""

    sharing: float
    alone: float

    def __str__(self) -> str:
        """Such as `272 epochs, 512 without shared warm-up (ratio 0.531)`."""
        ratio = self.sharing / self.alone if self.alone else 1.0
        return f"{self.sharing:.4g} epochs, {self.alone:.4g} without shared warm-up (ratio {ratio:.3f})"


def cost_of(runs: Sequence[RunConfig], steps: Sequence[int] | None = None, shared: bool = True) -> Cost:
    """The cost of training these runs.

    steps: of each; unless given, to the runs' ends. shared: whether the longest part of each warm-up counts once.
    Raises a UserError for a run that cannot be.
    """
    trunks: dict[Path, float] = {}
    alone = own = 0.0
    for config, trained in zip(runs, steps or [schedule_of(config).length for config in runs], strict=True):
        warmup, epoch = warmup_of(config), schedule_of(config).epoch
        common = min(trained, warmup.step) if shared else 0
        alone += trained / epoch
        own += (trained - common) / epoch
        trunks[warmup.trunk.folder] = max(trunks.get(warmup.trunk.folder, 0.0), common / epoch)
    return Cost(own + sum(trunks.values()), alone)


def silent_in_warmup(method: str) -> list[str]:
    """The dotted keys that change nothing before guidance starts, a whole section as one."""
    return [*_after_warmup(RunConfig, ""), *_after_warmup(find_options(method), f"{method}.")]


def missing_steps(warmup: Warmup, passing: Sequence[int] = ()) -> list[int]:
    """The steps to which the trunk has to be trained, in order, for a run to begin.

    passing: where other runs leave the trunk; those before the run's own are kept on the way.
    """
    if warmup.path.exists():
        return []
    stops = sorted({warmup.step, *(step for step in passing if 0 < step < warmup.step)})
    return [stop for stop in stops if not _kept(warmup.trunk.folder, stop).exists()]


def trunk_until(trunk: RunConfig, step: int) -> RunConfig:
    """The trunk's run as one that pauses after `step` steps. One that has gone further goes back first."""
    folder = RunFolder(trunk.folder)
    if _step_of(load_checkpoint(folder.checkpoints, say_nothing)) > step:
        _go_back(folder, step)
    return trunk.model_copy(update={"training": trunk.training.model_copy(update={"until": f"{step} steps"})})


def keep_state(trunk: RunConfig, step: int) -> None:
    """Keep the state of a trunk that has paused after `step` steps, with what it told until then, for a trunk may go
    back and tell other things after. Raises CheckpointError where it has not paused there.
    """
    folder = RunFolder(trunk.folder)
    state = load_checkpoint(folder.checkpoints, say_nothing)
    if state is None or _step_of(state) != step:
        raise CheckpointError(f"{folder.path}: at step {_step_of(state)}, expected {step}; delete the folder")
    path = _kept(folder.path, step)
    copy_metrics(folder.metrics, _metrics_of(path), step)
    if folder.events.is_dir():
        shutil.copytree(folder.events, _events_of(path), dirs_exist_ok=True)
    write_checkpoint(path, state)


def begin_at(config: RunConfig, warmup: Warmup) -> None:
    """Give a new run its first checkpoint, and the records of its warm-up.

    The checkpoint has the trunk's classifier and method's state under the run's name; networks of the run's own begin
    anew. Raises CheckpointError for a damaged state.
    """
    state, folder = read_checkpoint(warmup.path, REMEDY), RunFolder(config.folder)
    own = list(find_method(config.method).own_networks(config.options, schedule_of(config).clock))
    shared = {"networks": {"classifier": state["networks"]["classifier"]}, "method": state["method"]}
    checkpoint = checkpoint_of(config.identity, shared, Position(step=warmup.step)) | {"untouched": own}
    copy_metrics(_metrics_of(warmup.path), folder.metrics, warmup.step)
    if (events := _events_of(warmup.path)).is_dir():
        shutil.copytree(events, folder.events, dirs_exist_ok=True)
    save_checkpoint(folder.checkpoints, checkpoint)  # last: with it the run has begun


def _after_warmup(part: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in part.model_fields.items():
        nested = field.annotation
        if option_metadata(field, "after_warmup"):
            yield f"{prefix}{name}"
        elif isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _after_warmup(nested, f"{prefix}{name}.")


def _forget(values: dict[str, Any], path: list[str]) -> None:
    if len(path) == 1:
        values.pop(path[0], None)
    else:
        _forget(values[path[0]], path[1:])


def _kept(trunk: Path, step: int) -> Path:
    """The path of a trunk's state after a number of steps."""
    return trunk / "branches" / f"{step:08}.ckpt"


def _metrics_of(path: Path) -> Path:
    return path.with_suffix(".jsonl")


def _events_of(path: Path) -> Path:
    return path.with_suffix(".events")


def _step_of(state: dict[str, Any] | None) -> int:
    return 0 if state is None else int(state["position"]["step"])


def _go_back(folder: RunFolder, step: int) -> None:
    """Make the last kept state before `step` the newest checkpoint, or leave none; the newest goes last."""
    paths = [path for path in sorted((folder.path / "branches").glob("*.ckpt")) if int(path.stem) < step]
    if paths:
        save_checkpoint(folder.checkpoints, read_checkpoint(paths[-1], REMEDY))
    for name in (PREVIOUS,) if paths else (PREVIOUS, NEWEST):
        remove(folder.checkpoints / name)
    remove(folder.trained)
