"""A run from its description to its `done` mark: assemble, train, evaluate."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from align_dist.assembly import Assembly, arithmetic_of, assemble, choose_device, warnings_of
from align_dist.config import RunConfig
from align_dist.data.beton import is_written
from align_dist.data.comparison import checked_manifest
from align_dist.errors import NonFiniteError, Preempted, UserError
from align_dist.evaluation.evaluate import Evaluated, evaluate_run
from align_dist.evaluation.theory import masks_of
from align_dist.files import storage_errors, take_lock
from align_dist.messages import Say, say_nothing
from align_dist.parallel.connect import process_group
from align_dist.parallel.group import Group
from align_dist.parallel.ranks import find_ranks
from align_dist.runs.details import write_details
from align_dist.runs.folder import RunFolder
from align_dist.runs.position import Position
from align_dist.runs.results import Row
from align_dist.runs.warmup import begin_at, branch_steps, keep_state, missing_steps, trunk_until, warmup_of
from align_dist.training.hyperparameters import write_hyperparameters
from align_dist.training.loop import train
from align_dist.training.pictures import draw_tests
from align_dist.training.signals import StopRequest, deadline_of, leave_if_asked, noticing_signals

# What is left to do with a run that is trained to its end.
Conclusion = Callable[[Assembly, RunFolder, StopRequest, Position, Say], None]
TURN_EVERY = 1.0  # seconds between two looks whether a warm-up's folder is free


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def train_run(
    config: RunConfig,
    say: Say = _say,
    sources_only: bool = False,
    share_warmup: bool = False,
    passing: Sequence[int] = (),
) -> RunFolder:
    """Train and evaluate a run from the state in its folder, on the ranks that the environment names.

    A finished run returns at once, or is measured again where other settings of its evaluation are asked for; one that
    is to pause (training.until) is left there, and its folder says so.

    sources_only: no picture of a target domain can be read, and nothing is evaluated. share_warmup: a run that has not
    begun begins with the warm-up that its experiment's runs share, which is trained first where it is missing; the
    result is the same, bit for bit. passing: steps at which other runs leave that warm-up.

    Raises a UserError for whatever its description, its data or its ranks make impossible, Preempted after a signal;
    the folder then says why in ended.json.
    """
    folder, conclude = RunFolder(config.folder), _leave_unmeasured if sources_only else _evaluate
    device = choose_device(config.training.device).type
    # Outermost: a rank that is lost becomes an error of its own where ranks are disconnected.
    with _ends_on_record(folder), storage_errors(), process_group(config.distributed, device) as group:
        try:
            if share_warmup:
                _begin_from_warmup(config, folder, group, say, passing)
            _on_ranks(without_targets(config) if sources_only else config, folder, group, say, conclude, sources_only)
        except UserError as error:
            error.printed_by_another_rank = error.raised_on_all_ranks and not group.is_first
            raise
    return folder


def without_targets(config: RunConfig) -> RunConfig:
    """The same run without the selection that looks at targets."""
    selections = tuple(name for name in config.evaluation.selections if name != "oracle") or ("validation",)
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"selections": selections})})


def _begin_from_warmup(config: RunConfig, folder: RunFolder, group: Group, say: Say, passing: Sequence[int]) -> None:
    """Give a new run its first checkpoint, and train the shared warm-up as far as that takes."""
    warmup = group.run_on_all(lambda: warmup_of(config))
    if warmup.step == 0 or group.run_on_first(lambda: folder.has_begun):
        return
    folder.records_ending = True  # a warm-up that ends early ends the run too
    with _turn(warmup.trunk.folder, group, say):
        if not group.run_on_first(lambda: folder.has_begun):  # by another process, which had its turn before
            for step in group.run_on_first(lambda: missing_steps(warmup, [*passing, *branch_steps(config)])):
                _train_warmup(warmup.trunk, step, group, say)
            group.run_on_first(lambda: begin_at(config, warmup))
    folder.records_ending = False


def _train_warmup(trunk: RunConfig, step: int, group: Group, say: Say) -> None:
    """Train a shared warm-up to a step and keep that state. Raises NonFiniteError, at once for one that diverged."""
    folder = RunFolder(trunk.folder)
    ending = group.run_on_first(folder.ending)
    if ending is not None and ending.error is NonFiniteError:
        raise NonFiniteError(f"in warm-up: {ending.reason}")
    pausing = group.run_on_first(lambda: trunk_until(trunk, step))
    try:
        _on_ranks(pausing, folder, group, say, _leave_unmeasured, sources_only=True)
    except NonFiniteError as error:
        reason = str(error)
        group.run_on_first(lambda: folder.record_ending(NonFiniteError.exit_code, reason))
        raise NonFiniteError(f"in warm-up: {reason}") from None
    group.run_on_first(lambda: keep_state(trunk, step))


@contextmanager
def _turn(trunk: Path, group: Group, say: Say) -> Iterator[None]:
    """A shared warm-up's folder for these ranks alone. They look again and again, for no rank may wait in a collective
    for as long as others train.
    """
    lock = trunk / ".branching"
    group.run_on_first(lambda: trunk.mkdir(parents=True, exist_ok=True))
    with ExitStack() as stack:
        file = stack.enter_context(lock.open("ab")) if group.is_first else None
        first = True
        while not group.run_on_first(lambda: file is not None and take_lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)):
            if first and group.is_first:
                say(f"{trunk}: waiting for another run that trains this warm-up")
            first = False
            time.sleep(TURN_EVERY)
        yield


def _on_ranks(
    config: RunConfig, folder: RunFolder, group: Group, say: Say, conclude: Conclusion, sources_only: bool
) -> None:
    """A run on connected ranks: trained from where its folder says it is, then concluded."""
    report = say if group.is_first else say_nothing
    is_finished = group.run_on_first(lambda: _finished(folder, config))
    differences = group.run_on_first(lambda: folder.measured_otherwise(config.evaluation)) if is_finished else []
    if is_finished and (sources_only or not differences):
        report(f"{folder.path}: done already")
        return
    if is_finished:
        config = _with_measured_theory(config, folder, group)
        report(f"{folder.path}: trained already, measured with {'; '.join(differences)}: measuring again")
    run = assemble(config, group, sources_only)
    if config.evaluation.theory and not sources_only:
        group.run_on_all(lambda: masks_of(run))
    for line in warnings_of(run):
        report(f"warning: {line}")
    with ExitStack() as stack:
        group.run_on_first(lambda: _begin(stack, folder, run, report))
        request = stack.enter_context(noticing_signals(deadline_of(os.environ, config.distributed.grace)))
        position = Position(run.schedule.length) if is_finished else train(run, folder, request, report)
        if position.step < run.schedule.length:
            reason = f"paused at step {position.step} (training.until)"
            group.run_on_first(lambda: folder.record_ending(Preempted.exit_code, reason))
            report(f"{folder.path}: {reason}")
        else:
            conclude(run, folder, request, position, report)


def _with_measured_theory(config: RunConfig, folder: RunFolder, group: Group) -> RunConfig:
    """A finished run as it is measured again: a row that has the lemmas keeps them."""
    measured = group.run_on_first(lambda: folder.theory)
    if not measured or config.evaluation.theory or config.evaluation.faithfulness_images == 0:
        return config
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"theory": measured})})


def _finished(folder: RunFolder, config: RunConfig) -> bool:
    """Return whether the run is finished. Raises ConfigError where the folder holds another run, or one of other
    pictures than the beton's.
    """
    is_finished = folder.is_finished
    if is_finished:
        folder.check_same_run(config)
    if is_finished and is_written(config.benchmark.beton):
        folder.check_fingerprint(checked_manifest(config.benchmark).fingerprint)
    return is_finished


def _begin(stack: ExitStack, folder: RunFolder, run: Assembly, say: Say) -> None:
    arithmetic = arithmetic_of(run)
    stack.enter_context(folder.locked())
    folder.begin(run.config, run.group.world_size, run.manifest.fingerprint, arithmetic, run.manifest.classes)
    say(f"{folder.path}: {', '.join(f'{name} {value}' for name, value in arithmetic.items())}")


@contextmanager
def _ends_on_record(folder: RunFolder) -> Iterator[None]:
    """Record the reason in the folder of a run that has begun and ends early."""
    try:
        yield
    except Exception as error:
        if folder.records_ending and find_ranks(os.environ).rank == 0:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            folder.record_ending(getattr(error, "exit_code", 1), reason)
        raise


def _leave_unmeasured(run: Assembly, folder: RunFolder, _request: StopRequest, position: Position, say: Say) -> None:
    """Say how to measure the run, which may not look at its targets."""
    say(f"{folder.path}: trained to step {position.step}; the same command without --sources-only measures it")


def _evaluate(run: Assembly, folder: RunFolder, request: StopRequest, position: Position, say: Say) -> None:
    """Draw and measure every test domain, and mark the run as done."""
    clock = run.schedule.clock
    if clock.warmup == clock.length and run.config.options.shared_warmup(clock):
        say(f"{folder.path.name}: warning: training.warmup was the whole run, nothing ever guided")

    def check() -> None:
        if request.agreed(run.group):
            leave_if_asked(request, folder.path, position.step)

    local_run = run.with_local_networks()

    def draw() -> None:
        # A run that is measured again has its pictures, and networks into which nothing is loaded.
        if not folder.is_finished:
            draw_tests(local_run, folder, position.step)

    run.group.run_on_first(draw)
    evaluated = evaluate_run(run, folder, say, check)
    run.group.run_on_first(lambda: _write_results(run.config, folder, evaluated))


def _write_results(config: RunConfig, folder: RunFolder, evaluated: Evaluated) -> None:
    rows = evaluated.rows
    write_details(folder.details, evaluated.details)
    write_hyperparameters(folder.events, config, _final_accuracies(rows), 0, "final", {})
    folder.write_results(rows)


def _final_accuracies(rows: Sequence[Row]) -> dict[str, float]:
    """Accuracy by domain, and of its worst group, under source validation, the selection that peeks at nothing."""
    validated = [row for row in rows if row.selection == "validation"]
    return {
        f"final/{name}/{row.domain}": row.metrics[name]
        for name in ("accuracy", "worst_group_accuracy")
        for row in validated
        if name in row.metrics
    }
