"""A search from its description to search.json."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from align_dist.data.tree import beton_of
from align_dist.errors import ConfigError, LostRankError, Preempted, UserError
from align_dist.files import locked, read_json, unwritable, write_text
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State
from align_dist.schema.distributions import Choice
from align_dist.search.board import Lines, make_board, trunk_name
from align_dist.search.finalists import confirmations_of, table_of_finalists
from align_dist.search.folders import Trial, trial_status
from align_dist.search.hparams import write_hparams
from align_dist.search.plan import branch_of, check_trials, count_trunks, known_trials, predicted_cost
from align_dist.search.plots import draw_search
from align_dist.search.results import (
    Found,
    cost_line,
    find_results,
    folder_of,
    summary_of,
    write_found,
)
from align_dist.search.space import METHOD, Scheduler, SearchConfig
from align_dist.search.trunk import schedule_of, silent_in_warmup

EARLIER = 30.0  # seconds
LETTING_GO = 90.0  # seconds for trials to save when the search is asked to stop


def carry_out_search(search: SearchConfig, address: str | None = None, nodes: int = 0) -> Found:
    """Carries out what of the search is not done yet, and writes what it found.

    address: of a Ray cluster, None for one of its own on this machine. nodes: how many it is to be waited for.

    Raises a UserError: Preempted after a signal, LostRankError where trials are left that the same command goes on
    with, UserError where every trial failed.
    """
    folder = folder_of(search)
    with _alone(folder):
        _check_same(search, folder)
        trials = known_trials(search)
        check_trials(search, trials)
        try:
            if not is_done(search, trials):
                _train(search, trials, address, nodes)
            confirming = confirmations_of(search, trials)
            if not all(trial_status(trial.folder).over for trial in confirming):
                _train(as_they_are(search), confirming, address, nodes)
        finally:
            found = _write(search, trials)
    _check_ending(found)
    return found


def is_done(search: SearchConfig, trials: Sequence[Trial]) -> bool:
    """Whether no trial is left to start."""
    return len(trials) >= search.samples and all(trial_status(trial.folder).over for trial in trials)


def as_they_are(search: SearchConfig) -> SearchConfig:
    """The search as one whose trials are known, each to be trained to its end."""
    return search.model_copy(update={"algorithm": "random", "scheduler": Scheduler()})


def _train(search: SearchConfig, trials: list[Trial], address: str | None, nodes: int) -> None:
    from align_dist.parallel.group import Group
    from align_dist.search.cluster import ray_running
    from align_dist.training.signals import deadline_of, noticing_signals

    board = make_board(Lines(search, lambda trial: branch_of(search, trial), _length))
    # Trials have the same end, and are to be told by the search before they leave on their own.
    deadline = deadline_of(os.environ, search.base().distributed.grace + EARLIER)

    def end_without_ray(process: str) -> None:
        board.close()
        told = f"tune.py: Ray's {process} was killed; trials save, the same command goes on"
        print(told, file=sys.stderr, flush=True)
        os._exit(LostRankError.exit_code)

    with noticing_signals(deadline) as request:
        try:
            with ray_running(address, nodes, end_without_ray):
                from align_dist.search.driver import run_trials

                run_trials(search, trials, request, board)
        finally:
            board.close()
            _wait_for_trials(search, trials)
            shutil.rmtree(folder_of(search) / "ray", ignore_errors=True)
        if request.agreed(Group()):  # while Ray was ended; there may be confirmations to come
            raise Preempted(f"{request.name}: stops; the same command goes on")


def _wait_for_trials(search: SearchConfig, trials: Sequence[Trial]) -> None:
    """Until no trial and no trunk is being trained any more, or has had long enough to save."""
    folders = {trial.folder for trial in trials} | {branch_of(search, trial).trunk for trial in trials}
    start = time.monotonic()
    while any(RunFolder(folder).is_held() for folder in folders) and time.monotonic() - start < LETTING_GO:
        time.sleep(0.2)


def _length(trial: Trial) -> int:
    return schedule_of(trial.config).length


def _write(search: SearchConfig, trials: Sequence[Trial]) -> Found:
    found = find_results(search, sorted(trials, key=lambda trial: trial.number))
    folder = write_found(found)
    draw_search(found, folder)
    write_hparams(found)
    return found


def _check_ending(found: Found) -> None:
    states = [entry.state for entry in found.entries]
    if states and all(state is State.FAILED for state in states):
        raise UserError(
            f"{found.search.experiment}: every trial failed, the first with: {found.entries[0].reason}; "
            f"see trial.log in {found.entries[0].folder}"
        )
    left = sum(entry.state in (State.NEW, State.INTERRUPTED) for entry in (*found.entries, *found.confirmations))
    if left:
        raise LostRankError(f"{found.search.experiment}: {left} trials are not over; the same command goes on")
    if len(states) < found.search.samples:
        raise ConfigError(f"samples: the space seems to hold {len(states)} different trials only; lower it to that")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While inside, no other process carries out this search. Raises ConfigError where one does, StorageError where
    the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".searching").touch()
    except OSError as error:
        raise unwritable(folder, error) from None
    with locked(folder / ".searching", wait=False) as mine:
        if not mine:
            raise ConfigError(f"{folder}: another process carries out this search; wait for it, or end it")
        yield


def _check_same(search: SearchConfig, folder: Path) -> None:
    """Raises ConfigError where the folder holds trials of another search, DataError for a beton that is not its own."""
    beton_of(search.base().benchmark)  # or every trial would end with what this raises
    path, identity = folder / "description.json", json.loads(json.dumps(search.identity()))
    begun = any(folder.glob("*/suggested.json")) or any(folder.glob("trunks/*"))
    if not path.exists() or not begun:
        write_text(path, json.dumps(identity, indent=1) + "\n")
        return
    before = read_json(path)
    differing = [key for key in identity if identity[key] != before.get(key)]
    if differing:
        raise ConfigError(
            f"{folder}: holds another search ({', '.join(differing)} differ); choose another experiment or delete it"
        )


def show_plan(search: SearchConfig) -> None:
    """Prints the trials that are known before training, their trunks, and the epochs that they will cost."""
    trials = known_trials(search)
    check_trials(search, trials)
    for trial in trials:
        branch, schedule = branch_of(search, trial), schedule_of(trial.config)
        values = " ".join(f"{key}={value}" for key, value in trial.values.items())
        print(f"trial {trial.number}: {values}, from {trunk_name(branch)}, {schedule.length} steps: {trial.folder}")
    if len(trials) < search.samples:
        by = "what these find" if trials else "what earlier ones find"
        print(f"{search.samples - len(trials)} trials are chosen by {by} ({search.algorithm}): no list of them yet")
    if search.confirm is not None:
        print(f"then, not counted here, the best {search.confirm.finalists} on {search.confirm.seeds} other seeds")
    if trials:
        cost = predicted_cost(search, trials)
        print(cost_line(cost, len(trials), count_trunks(search, trials)))
    for key in sorted(set(search.space) - {"training.warmup", f"{METHOD}.masker_head_start"}):
        if search.share_warmup and acts_in_warmup(key) and not isinstance(search.space[key], Choice):
            print(f"note: {key} acts in warm-up and is drawn from a range, so that hardly two trials share a trunk")


def acts_in_warmup(key: str) -> bool:
    """Whether trials that differ in a key differ in warm-up."""
    return not any(key == name or key.startswith(f"{name}.") for name in silent_in_warmup(METHOD))


def show(found: Found) -> None:
    """Prints the trials, the best, and the cost."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(summary_of(found))
    if found.finalists:
        console.print(table_of_finalists(found.finalists))
    print(cost_line(found.cost, found.whole_runs, found.trunks))
    folder = folder_of(found.search)
    for number in found.front:
        print(f"on the front: trial {number}: {folder / f'front-{number:04}.yaml'}")
    if found.best is not None:
        print(f"best: trial {found.best}: {folder / 'best.yaml'}")
    print(folder / "search.json")
