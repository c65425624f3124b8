"""A search from its description to its results: Ray Tune runs the trials that are not over.

Ray is imported where it is used, for it reads its settings at once.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from align_dist.cluster.ray_cluster import check_package, ray_running
from align_dist.data.comparison import checked_manifest
from align_dist.errors import ConfigError, LostRankError, MachineError, Preempted, UserError, first_line
from align_dist.files import locked, read_json, unwritable, write_text
from align_dist.parallel.group import Group
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State
from align_dist.runs.warmup import trunk_of
from align_dist.search.config import SearchConfig, scheduler_results
from align_dist.search.plots import draw_plots
from align_dist.search.results import SearchResults, read_results, write_results
from align_dist.search.sampler import TrialSampler
from align_dist.search.trials import SUGGESTED, Trial, check_lengths, confirmations_of, taking_turns, trial_status
from align_dist.training.signals import StopRequest, deadline_of, noticing_signals
from align_dist.training_plan import schedule_of

EARLIER = 30.0  # seconds before the trials' own end
LETTING_GO = 90.0  # seconds for trials to save when the search is asked to stop
ATTEMPTS = 3  # starts of a trial that is killed from outside, in one search


def run_search(search: SearchConfig, address: str | None = None, nodes: int = 0) -> SearchResults:
    """Train the trials of the search that are not over, and write the results.

    address: of a Ray cluster, None for one of its own on this machine. nodes: how many it is to be waited for.

    Raises a UserError: Preempted after a signal, LostRankError where trials are left that the same command goes on
    with, UserError where every trial failed.
    """
    with _alone(search):
        sampler = TrialSampler(search)
        check_lengths(search, sampler.trials)
        unfinished = len(sampler.trials) < search.samples or bool(_left(search, sampler.trials))
        if unfinished:
            check_package("ray")
        try:
            if unfinished:
                _train(search, sampler.trials, sampler, address, nodes)
            confirming = confirmations_of(search, sampler.trials)
            if _left(search, confirming):
                _train(search, confirming, None, address, nodes)
        finally:
            results = read_results(search, sampler.trials)
            write_results(results)
            draw_plots(search, sampler.trials)
    _check_ending(results)
    return results


def _left(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The trials that are not over."""
    return [trial for trial in trials if not trial_status(trial, search.objective).over]


def _train(
    search: SearchConfig, trials: list[Trial], sampler: TrialSampler | None, address: str | None, nodes: int
) -> None:
    """Train every trial that is not over, and those that the sampler adds to the list; without one to their ends.

    Raises Preempted where something asked for a stop, LostRankError where Ray does not go on, MachineError.
    """
    # Trials have the same end, and are to be told by the search before they leave on their own.
    deadline = deadline_of(os.environ, search.base().distributed.grace + EARLIER)
    storage = (search.folder() / "ray").absolute()
    shutil.rmtree(storage, ignore_errors=True)
    with noticing_signals(deadline) as request:
        try:
            with ray_running(address, nodes), redirect_stdout(io.StringIO()):  # Ray prints at verbose=0 too
                _tune(search, trials, sampler, request, storage)
        finally:
            _wait_for_trials(trials)
            shutil.rmtree(storage, ignore_errors=True)
        if request.agreed(Group()):  # while Ray was ended; there may be confirmations to come
            raise Preempted(f"{request.name}: stops; run the same command again to resume")


def _tune(
    search: SearchConfig, trials: list[Trial], sampler: TrialSampler | None, request: StopRequest, storage: Path
) -> None:
    from ray import nodes, tune
    from ray.exceptions import RayError
    from ray.tune.error import TuneError

    from align_dist.search.scheduler import GuidedASHA, TrialQueue, Watch
    from align_dist.search.trainable import TrialTrainable

    room = check_room(search, [node["Resources"] for node in nodes() if node["Alive"]])
    bundle = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
    resources = tune.PlacementGroupFactory([bundle] * search.ranks_per_trial)
    queue = TrialQueue(search, taking_turns(_left(search, trials)), sampler)
    asha = None
    if sampler is not None and search.scheduler.kind == "asha":
        earlier = {t.folder: scheduler_results(t.folder, schedule_of(t.config), search.objective) for t in trials}
        asha = GuidedASHA(search.scheduler, check_lengths(search, trials), earlier)
    tuner = tune.Tuner(
        tune.with_resources(TrialTrainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=asha,
            num_samples=-1,  # as many as the queue has
            max_concurrent_trials=search.concurrency or room,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=str(storage),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a run has its own
            failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
            callbacks=[Watch(search, queue, request)],
        ),
    )
    try:
        tuner.fit()
    except (RayError, TuneError) as error:
        reason = first_line(error)
        raise LostRankError(f"Ray ended: {reason}; trials saved, run the same command again to resume") from None


def check_room(search: SearchConfig, machines: Sequence[dict[str, float]]) -> int:
    """The number of trials that machines with these resources hold at once; a rank is never on two machines.

    Raises MachineError where they hold none.
    """
    wanted = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
    ranks = sum(min(int(room.get(name, 0) / count) for name, count in wanted.items() if count) for room in machines)
    if ranks >= search.ranks_per_trial:
        return ranks // search.ranks_per_trial
    those = ", ".join(f"{room.get('CPU', 0):g} CPUs and {room.get('GPU', 0):g} GPUs" for room in machines)
    raise MachineError(
        f"a trial is {search.ranks_per_trial} × ({search.cpus_per_trial:g} CPUs, {search.gpus_per_trial:g} GPUs); "
        f"Ray's machines have {those}; lower cpus_per_trial, gpus_per_trial or ranks_per_trial, or ask for more"
    )


def _wait_for_trials(trials: Sequence[Trial]) -> None:
    """Until no trial and no warm-up is being trained any more, or has had long enough to save."""
    folders = {folder for trial in trials for folder in (trial.folder, trunk_of(trial.config).folder)}
    start = time.monotonic()
    while any(RunFolder(folder).is_locked() for folder in folders) and time.monotonic() - start < LETTING_GO:
        time.sleep(0.2)


def _check_ending(results: SearchResults) -> None:
    search, entries = results.search, list(results.entries.values())
    if entries and all(entry.state is State.FAILED for entry in entries):
        reason, folder = entries[0].reason, entries[0].trial.folder
        raise UserError(f"{search.experiment}: every trial failed, the first with: {reason}; see trial.log in {folder}")
    states = [entry.state for entry in (*entries, *results.confirmations)]
    left = states.count(State.NEW) + states.count(State.INTERRUPTED)
    if left:
        raise LostRankError(f"{search.experiment}: {left} trials are not over; run the same command again to resume")
    if len(entries) < search.samples:
        raise ConfigError(f"samples: the space seems to hold {len(entries)} different trials only; lower it to that")


@contextmanager
def _alone(search: SearchConfig) -> Iterator[None]:
    """While inside, no other process runs this search. Raises ConfigError where one does and where the folder holds
    trials of another search, StorageError where the folder cannot be written, DataError for a beton not its own.
    """
    checked_manifest(search.base().benchmark)  # or every trial would end with what this raises
    folder = search.folder()
    path, identity = folder / "description.json", json.loads(json.dumps(search.identity()))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".searching").touch()
    except OSError as error:
        raise unwritable(folder, error) from None
    with locked(folder / ".searching", wait=False) as mine:
        if not mine:
            raise ConfigError(f"{folder}: another process runs this search; wait for it, or end it")
        has_trials, before = any(folder.glob(f"*/{SUGGESTED}")), read_json(path)
        differing = ", ".join(key for key in identity if identity[key] != before.get(key))
        if path.exists() and has_trials and differing:
            remedy = "choose another experiment or delete it"
            raise ConfigError(f"{folder}: holds another search ({differing} differ); {remedy}")
        write_text(path, json.dumps(identity, indent=1) + "\n")
        yield
