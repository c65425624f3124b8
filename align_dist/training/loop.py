"""The loop: schedule → step → events → validation → checkpoint → leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch

from align_dist.assembly import Assembly
from align_dist.data.batch import Batch
from align_dist.messages import Say
from align_dist.methods.base import Scalars
from align_dist.runs.folder import RunFolder
from align_dist.runs.position import Position
from align_dist.schedule import learning_rate
from align_dist.training.batches import batches, probe_batch
from align_dist.training.map_warnings import collapse_warning, staying_warning, unguided_staying
from align_dist.training.monitor import Monitor, gradient_norms
from align_dist.training.pictures import draw_validation
from align_dist.training.progress import ProgressDisplay, training_progress
from align_dist.training.saving import finish, resume, save
from align_dist.training.signals import StopRequest, leave_if_asked
from align_dist.training.validation import WORST_GROUP, explained_samples, validate

# Of a validation, what has a place in a line.
SHOWN = ("validation/accuracy", WORST_GROUP, "oracle/accuracy", "validation/commonest_cell", "validation/map_following")


def train(run: Assembly, folder: RunFolder, request: StopRequest, say: Say) -> Position:
    """Train a run from the state in its folder to its end, and keep the weights of every selection.

    Where the schedule pauses the run before its end, it is left with a checkpoint there.

    Raises Preempted after a signal (saved, resumable), NonFiniteError, CheckpointError or StorageError.
    """
    schedule, position = run.schedule, resume(run, folder, say)
    with _session(run, folder, position) as session:
        for batch, waited in batches(run, position.step):
            terms = _step(run, batch, position.step)
            step = position.step = position.step + 1
            leaving = request.agreed_lately(run.group)
            session.monitor.add(step, terms, len(batch.images) * run.group.world_size, waited)
            session.progress.advance(step)
            if step % run.config.training.log_every == 0 or schedule.is_stop(step) or leaving:
                _report(session, step)
            if schedule.is_due(step, schedule.validate_every):
                _validate(session, position)
            if schedule.is_due(step, schedule.pictures_every):
                _draw(session, step)
            if schedule.is_due(step, schedule.checkpoint_every) or step == schedule.end or leaving:
                save(run, folder, position)
            leave_if_asked(request, folder.path, step)
    if position.step == schedule.length:
        finish(run, folder, position)
    return position


@dataclass(frozen=True)
class _Session:
    """The outputs of one start of a run. unguided: `unguided_staying` of the run, once warm-up is over; read
    once. Collective.
    """

    run: Assembly
    folder: RunFolder
    monitor: Monitor
    progress: ProgressDisplay
    unguided: Callable[[], float | None]


@contextmanager
def _session(run: Assembly, folder: RunFolder, position: Position) -> Iterator[_Session]:
    monitor, warmup = Monitor(run, folder, position.step), run.schedule.warmup
    unguided = cache(lambda: run.group.run_on_first(lambda: unguided_staying(folder.metrics, warmup)))
    try:
        with training_progress(folder.path.name, run.schedule.length, run.group.is_first) as progress:
            yield _Session(run, folder, monitor, progress, unguided)
    finally:
        monitor.close()


def _step(run: Assembly, batch: Batch, step: int) -> Scalars:
    """One step of the method, at the learning rates and with the random numbers of that step."""
    for name, engine in run.method.networks.items():
        network = run.trainable_networks[name]
        end = run.schedule.length if network.end is None else network.end
        engine.set_learning_rate(learning_rate(network.optimiser, step, network.start, end))
    seed = run.config.seed * 1_000_003 + step + run.group.rank * 2**40
    torch.manual_seed(seed % 2**63)  # dropout draws from here
    return run.method.step(batch, step)


def _report(session: _Session, step: int) -> None:
    """The means of what the steps since the last report gave."""
    _warn(session, step, "method", session.run.method.warning(session.monitor.flush()))


def _validate(session: _Session, position: Position) -> None:
    """Validation, and warnings once guidance could have shown the network where to look and its maps came loose."""
    run, step = session.run, position.step
    values = validate(run, position)
    run.group.run_on_first(lambda: session.monitor.write(step, values))
    session.progress.tell(step, {name: values[name] for name in SHOWN if name in values})
    if run.schedule.may_select(step):
        pictures = len(explained_samples(run))
        _warn(session, step, "collapse", collapse_warning(values, pictures))
        if run.config.options.is_guided:
            _warn(session, step, "staying", staying_warning(values, session.unguided(), pictures))


def _draw(session: _Session, step: int) -> None:
    """Pictures, and the gradient norm of each term: one rank's work, on plain networks."""
    local_run = session.run.with_local_networks()

    def draw() -> None:
        draw_validation(local_run, session.folder, step, session.monitor)
        session.monitor.write(step, gradient_norms(local_run.method, probe_batch(local_run, step), step))

    session.run.group.run_on_first(draw)


def _warn(session: _Session, step: int, kind: str, warning: str | None) -> None:
    first = session.monitor.first_of_its_kind(kind, warning)
    if first:
        session.progress.say(f"step {step}: {first}")
