"""The loop: schedule → step → events → checkpoint → evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from align_dist.assembly import Assembly
from align_dist.config import RunConfig
from align_dist.data.batch import Batch
from align_dist.data.draws import Draws, sample_of, unaugmented
from align_dist.data.share import GlobalBatch, Share
from align_dist.errors import CheckpointError
from align_dist.evaluation.accuracy import accuracy
from align_dist.evaluation.evaluate import collapse_of, group_metrics_of, subset
from align_dist.evaluation.inference import accuracy_on, probabilities_on
from align_dist.methods.base import Method
from align_dist.parallel.group import Group
from align_dist.runs.checkpoint import load_checkpoint, save_checkpoint
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import forget_after
from align_dist.runs.selection import Best, Weights, restore_selected, weights_now, write_selected
from align_dist.schedule import learning_rate
from align_dist.training.monitor import Monitor, collapse_warning, gradient_norms
from align_dist.training.pictures import draw_validation
from align_dist.training.progress import Progress, training_progress
from align_dist.training.signals import StopRequest, leave_if_asked

WORST_GROUP = "validation/worst_group_accuracy"
# Of a validation, what has a place in a line.
TOLD = ("validation/accuracy", WORST_GROUP, "oracle/accuracy", "validation/commonest_cell", "validation/map_following")

Say = Callable[[str], None]
# Of the run, the step and the values of a validation.
Observer = Callable[[Assembly, int, dict[str, float]], None]


@dataclass
class Position:
    """Where a run is: all that a checkpoint holds besides the networks.

    selected: the weights that selections have chosen so far, by name, on the first rank. unwritten: those of them
    that are in no checkpoint yet.
    """

    step: int = 0
    validation: Best = field(default_factory=Best)
    oracle: Best = field(default_factory=Best)
    worst_group: Best = field(default_factory=Best)
    selected: dict[str, Weights] = field(default_factory=dict)
    unwritten: set[str] = field(default_factory=set)


def no_observer(_run: Assembly, _step: int, _values: dict[str, float]) -> None:
    """What a plain run does after a validation."""


def train(
    run: Assembly, folder: RunFolder, request: StopRequest, say: Say, observe: Observer = no_observer
) -> Position:
    """Trains a run from where its folder says it is to its end, and keeps the weights of every selection.

    observe: called on every rank after each validation. Where the schedule pauses the run before its end, it is
    left with a checkpoint there.

    Raises Preempted after a signal (saved, resumable), NonFiniteError, CheckpointError or StorageError.
    """
    position = _resume(run, folder, say)
    monitor = Monitor(run, folder, position.step)
    try:
        with training_progress(folder.path.name, run.schedule.length, run.group.is_first) as progress:
            while position.step < run.schedule.end:
                _advance(run, position, monitor, progress, request)
                _at_boundary(run, folder, position, monitor, progress, request, observe)
    finally:
        monitor.close()
    if position.step < run.schedule.length:
        return position
    last = weights_now(position.step, run.method.networks, run.group)
    run.group.first(lambda: write_selected(folder.selected, {"last": last}))
    return position


def _advance(run: Assembly, position: Position, monitor: Monitor, progress: Progress, request: StopRequest) -> None:
    """Steps up to the next boundary, or to the end of the step in which a signal arrived."""
    start, stop = position.step, run.schedule.next_stop(position.step)
    group = run.group
    batches = run.loader.shares(lambda i: share_of(run, run.order.batch(start + i), start + i), stop - start)
    for batch, waited in _timed(batches):
        _set_rates(run, position.step)
        torch.manual_seed(_step_seed(run.config.seed, position.step, group.rank))  # dropout draws from here
        terms = run.method.step(batch, position.step)
        position.step += 1
        monitor.add(position.step, terms, len(batch.images) * group.world_size, waited)
        if position.step % run.config.training.log_every == 0:
            _report(run, monitor, progress, position.step)
        progress.advance(position.step)
        if request.agreed_lately(group):
            break
    _report(run, monitor, progress, position.step)


def _at_boundary(
    run: Assembly,
    folder: RunFolder,
    position: Position,
    monitor: Monitor,
    progress: Progress,
    request: StopRequest,
    observe: Observer,
) -> None:
    """Validation, pictures and a checkpoint where they are due; a checkpoint, and out, after a signal."""
    schedule, step = run.schedule, position.step
    validated = None
    if schedule.due(step, schedule.validate_every):
        validated = _validate(run, position, monitor, progress)
    if schedule.due(step, schedule.pictures_every):
        reading = run.reading()
        run.group.first(lambda: _look(reading, folder, step, monitor))
    if validated is not None:
        observe(run, step, validated)  # before the checkpoint: a run that dies in it does it again
    if request.name or step == schedule.end or schedule.due(step, schedule.checkpoint_every):
        state = state_of(run.method)
        run.group.first(lambda: _save(run, folder, position, state))
    leave_if_asked(request, folder.path, step)


def _validate(run: Assembly, position: Position, monitor: Monitor, progress: Progress) -> dict[str, float]:
    """Measures on the validation parts; keeps the weights that are best by each rule, once warm-up is over."""
    step, reading = position.step, run.reading()
    now = cache(lambda: weights_now(step, run.method.networks, run.group))  # one copy for all that choose it

    def better(name: str, best: Best, accuracy: float) -> Best:
        if accuracy < best.accuracy or not run.schedule.selectable(step):
            return best
        position.selected[name] = now()
        position.unwritten.add(name)
        return Best(accuracy, step)

    values = {f"validation/{name}": value for name, value in _measure_validation(reading).items()}
    position.validation = better("validation", position.validation, values["validation/accuracy"])
    if WORST_GROUP in values:
        position.worst_group = better("validation_worst_group", position.worst_group, values[WORST_GROUP])
    if "oracle" in run.config.evaluation.selections and run.split.target_validation:
        targets = [_accuracy_on(reading, samples) for samples in run.split.target_validation.values()]
        oracle = sum(targets) / len(targets)
        position.oracle = better("oracle", position.oracle, oracle)
        values["oracle/accuracy"] = oracle
    run.group.first(lambda: monitor.write(step, values))
    progress.tell(step, {name: values[name] for name in TOLD if name in values})
    # Before guidance a network may not have learnt yet where to look.
    if run.schedule.selectable(step):
        _warn(monitor, progress, step, "collapse", collapse_warning(values, len(_explained(run))))
    return values


def _measure_validation(run: Assembly) -> dict[str, float]:
    """Accuracy on the source domains' validation part, that of its groups, and whether maps collapse. Collective."""
    samples, size = run.split.validation, run.config.evaluation.batch_size
    probabilities, labels = probabilities_on(run.method.classifier, run.loader, samples, size, run.group)
    values = {"accuracy": accuracy(probabilities, labels), **group_metrics_of(run, samples, probabilities, labels)}
    explained = _explained(run)
    return values | (collapse_of(run, explained) if len(explained) else {})


def _explained(run: Assembly) -> NDArray[np.int64]:
    """The validation pictures whose maps are measured."""
    return subset(run.split.validation, run.config.evaluation.faithfulness_images)


def _accuracy_on(run: Assembly, samples: NDArray[np.int64]) -> float:
    return accuracy_on(run.method.classifier, run.loader, samples, run.config.evaluation.batch_size, run.group)


def _look(run: Assembly, folder: RunFolder, step: int, monitor: Monitor) -> None:
    """Pictures, and the gradient norm of each term: one rank's work, on plain networks."""
    draw_validation(run, folder, step, monitor)
    monitor.write(step, gradient_norms(run.method, probe_batch(run, step), step))


def share_of(run: Assembly, draws: Draws, step: int) -> Share:
    """What this rank reads of a global batch, and takes along, for a step."""
    samples, group, loader = sample_of(draws), run.group, run.loader
    labels, domains = loader.labels[samples], loader.domains[samples]
    groups = None if loader.groups is None else loader.groups[samples]
    classes = len(run.manifest.classes)
    whole = GlobalBatch(draws, labels, classes, group.rank, group.world_size, domains, loader.views, groups)
    return run.method.share(whole, step)


def probe_batch(run: Assembly, step: int) -> Batch:
    """The first training images, as they are: as many as a rank has graphs of in training."""
    config, alone = run.config.data, replace(run, group=Group())
    count = config.batch_size // (run.group.world_size * config.micro_batches)
    draws = unaugmented(run.split.train[:count])
    (batch,) = run.loader.shares(lambda _: share_of(alone, draws, step), 1)
    return batch


def _report(run: Assembly, monitor: Monitor, progress: Progress, step: int) -> None:
    _warn(monitor, progress, step, "method", run.method.warning(monitor.flush()))


def _warn(monitor: Monitor, progress: Progress, step: int, kind: str, warning: str | None) -> None:
    first = monitor.first_of_its_kind(kind, warning)
    if first:
        progress.say(f"step {step}: {first}")


def _set_rates(run: Assembly, step: int) -> None:
    for name, engine in run.method.networks.items():
        learner = run.learners[name]
        end = run.schedule.length if learner.end is None else learner.end
        engine.set_learning_rate(learning_rate(learner.optimiser, step, learner.start, end))


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step + rank * 2**40) % 2**63


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that the loop waited for it."""
    while True:
        before = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - before


def state_of(method: Method[Any]) -> dict[str, Any]:
    """Of a method what a checkpoint holds: `networks`, engines' state dicts by name, and `method`. Collective."""
    networks = {name: engine.state_dict() for name, engine in method.networks.items()}
    return {"networks": networks, "method": {name: value.cpu() for name, value in method.state.items()}}


def _save(run: Assembly, folder: RunFolder, position: Position, state: dict[str, Any]) -> None:
    """The checkpoint, with which what was selected since the one before becomes valid; then its files."""
    save_checkpoint(folder.checkpoints, checkpoint_of(run.config, state, position))
    write_selected(folder.selected, {name: position.selected[name] for name in position.unwritten})
    position.unwritten.clear()


def checkpoint_of(config: RunConfig, state: dict[str, Any], position: Position) -> dict[str, Any]:
    """What a run's checkpoint holds. state: as `state_of` has it."""
    told = {"step": position.step, "validation": asdict(position.validation), "oracle": asdict(position.oracle)}
    told["validation_worst_group"] = asdict(position.worst_group)
    return {"identity": config.identity, **state, "position": told, "selected": position.selected}


def _resume(run: Assembly, folder: RunFolder, say: Say) -> Position:
    """Loads the newest usable checkpoint into the networks and says where the run goes on. Rank 0 reads it."""
    selected: dict[str, Weights] = {}  # for the rank that writes alone

    def read() -> dict[str, Any] | None:
        state = load_checkpoint(folder.checkpoints, say)
        if state is not None and state["identity"] != run.config.identity:
            raise CheckpointError(f"{folder.checkpoints}: of another run, {state['identity']}; delete {folder.path}")
        selected.update(state.pop("selected") if state is not None else {})
        restore_selected(folder.selected, selected)
        forget_after(folder.metrics, 0 if state is None else state["position"]["step"])
        return state

    state = run.group.read(read)
    if state is None:
        return Position()
    # A checkpoint that was branched off another run's warm-up names the networks that had not begun there.
    untouched = state.get("untouched", [])
    for name, engine in run.method.networks.items():
        if name not in untouched:
            engine.load_state_dict(state["networks"][name])
    run.method.state |= {name: value.to(run.device) for name, value in state["method"].items()}
    told = state["position"]
    # Checkpoints are older than the choice by worst group.
    worst_group = Best(**told.get("validation_worst_group", {}))
    position = Position(told["step"], Best(**told["validation"]), Best(**told["oracle"]), worst_group, selected)
    say(f"{folder.path}: resuming at step {position.step} of {run.schedule.length}")
    return position
