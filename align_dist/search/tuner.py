"""A search from its description to its results: Ray Tune runs the trials that are not over."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align_dist.assembly import schedule_of
from align_dist.data.tree import beton_of
from align_dist.errors import ConfigError, LostRankError, MachineError, Preempted, UserError
from align_dist.files import locked, read_json, unwritable, write_text
from align_dist.parallel.group import Group
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State
from align_dist.runs.warmup import branch_step, silent_in_warmup, trunk_of
from align_dist.schema.distributions import Choice
from align_dist.search.cluster import ray_running
from align_dist.search.config import SearchConfig, read_validations, results_of
from align_dist.search.plots import draw_plots
from align_dist.search.results import SearchResults, cost_of, read_results, write_results
from align_dist.search.sampler import TrialSampler, known_trials
from align_dist.search.trials import (
    DESCRIPTION,
    SUGGESTED,
    Trial,
    branch_steps,
    confirmations_of,
    length_variants,
    mark_stopped,
    most_validations,
    taking_turns,
    trial_status,
)
from align_dist.training.signals import StopRequest, deadline_of, noticing_signals

if TYPE_CHECKING:
    from ray.tune import Tuner

    from align_dist.search.scheduler import TrialQueue, Watch
    from align_dist.search.trainable import TrialTask

EARLIER = 30.0  # seconds before the trials' own end
LETTING_GO = 90.0  # seconds for trials to save when the search is asked to stop
ATTEMPTS = 3  # starts of a trial that is killed from outside, in one search


def run_search(search: SearchConfig, address: str | None = None, nodes: int = 0) -> SearchResults:
    """Trains what of the search is not over yet, and writes the results.

    address: of a Ray cluster, None for one of its own on this machine. nodes: how many it is to be waited for.

    Raises a UserError: Preempted after a signal, LostRankError where trials are left that the same command goes on
    with, UserError where every trial failed.
    """
    folder = search.folder()
    with _alone(folder):
        _check_same(search, folder)
        sampler = known_trials(search)
        check_trials(search, sampler.trials)
        try:
            if len(sampler.trials) < search.samples or _left(search, sampler.trials):
                _train(search, sampler.trials, sampler, address, nodes)
            confirming = confirmations_of(search, sampler.trials)
            if _left(search, confirming):
                _train(search, confirming, None, address, nodes)
        finally:
            results = read_results(search, sampler.trials)
            write_results(results)
            draw_plots(search, results.trials)
    _check_ending(results)
    return results


def _left(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The trials that are not over."""
    return [trial for trial in trials if not trial_status(trial, search.objective).over]


def _train(
    search: SearchConfig, trials: list[Trial], sampler: TrialSampler | None, address: str | None, nodes: int
) -> None:
    """Trains every trial that is not over, and those that the sampler adds to the list; without one to their ends."""

    def end_without_ray(process: str) -> None:
        line = f"tune.py: Ray's {process} was killed; trials save, the same command goes on"
        print(line, file=sys.stderr, flush=True)
        os._exit(LostRankError.exit_code)

    # Trials have the same end, and are to be told by the search before they leave on their own.
    deadline = deadline_of(os.environ, search.base().distributed.grace + EARLIER)
    storage = search.folder() / "ray"
    with noticing_signals(deadline) as request:
        try:
            with ray_running(address, nodes, end_without_ray):
                _tune(search, trials, sampler, request, storage)
        finally:
            _wait_for_trials(trials)
            shutil.rmtree(storage, ignore_errors=True)
        if request.agreed(Group()):  # while Ray was ended; there may be confirmations to come
            raise Preempted(f"{request.name}: stops; the same command goes on")


def _tune(
    search: SearchConfig, trials: list[Trial], sampler: TrialSampler | None, request: StopRequest, storage: Path
) -> None:
    """Raises Preempted where something asked for a stop, LostRankError where Ray does not go on."""
    from ray import nodes
    from ray.exceptions import RayError
    from ray.tune.error import TuneError

    from align_dist.search.scheduler import TrialQueue, Watch

    rooms = [node["Resources"] for node in nodes() if node["Alive"]]
    places = count_places(search, rooms)
    if places < search.ranks_per_trial:
        machines = ", ".join(f"{room.get('CPU', 0):g} CPUs and {room.get('GPU', 0):g} GPUs" for room in rooms)
        raise MachineError(
            f"a trial is {search.ranks_per_trial} × ({search.cpus_per_trial:g} CPUs, {search.gpus_per_trial:g} GPUs); "
            f"Ray's machines have {machines}; lower cpus_per_trial, gpus_per_trial or ranks_per_trial, or ask for more"
        )
    concurrency = search.concurrency or places // search.ranks_per_trial
    queue = TrialQueue(taking_turns(_left(search, trials)), sampler, search.objective, lambda t: task_of(search, t))
    scheduler = _asha(search, trials) if sampler is not None and search.scheduler.kind == "asha" else None
    watch = Watch(queue, search.objective, request)
    try:
        with redirect_stdout(io.StringIO()):  # Ray prints a few lines at verbose=0 too
            _tuner(search, queue, scheduler, watch, concurrency, storage).fit()
    except (RayError, TuneError) as error:
        reason = " ".join(str(error).strip().splitlines()[-1:])[:200]
        raise LostRankError(f"Ray ended: {reason}; trials have saved, the same command goes on") from None


def count_places(search: SearchConfig, rooms: Sequence[dict[str, float]]) -> int:
    """How many ranks Ray's machines hold at once; a rank is never over two of them. rooms: each one's resources."""
    wanted = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
    return sum(min(int(room.get(name, 0) / count) for name, count in wanted.items() if count) for room in rooms)


def task_of(search: SearchConfig, trial: Trial) -> TrialTask:
    """What Ray's processes are told of a trial."""
    from align_dist.search.trainable import TrialTask

    steps = ",".join(map(str, branch_steps(search, trial)))
    shared = ["--share-warmup", *(["--keep-warmup", steps] if steps else [])] if search.share_warmup else []
    return TrialTask(
        folder=trial.folder,
        arguments=(str(trial.folder / DESCRIPTION), "--sources-only", *shared),
        directory=os.getcwd(),
        ranks=search.ranks_per_trial,
        cpus=search.cpus_per_trial,
        gpus=search.gpus_per_trial,
        schedule=schedule_of(trial.config),
        objective=search.objective,
    )


def _asha(search: SearchConfig, trials: Sequence[Trial]) -> Any:
    from align_dist.search.scheduler import GuidedASHA

    def stop(number: int, reason: str) -> None:
        mark_stopped(next(trial for trial in trials if trial.number == number).folder, reason)

    earlier = {}
    for trial in trials:
        schedule = schedule_of(trial.config)
        validations = read_validations(trial.folder, schedule, search.objective)
        earlier[trial.number] = results_of(validations, schedule, search.objective)
    return GuidedASHA(search.scheduler, _most_validations(search, trials), stop, earlier)


def _tuner(
    search: SearchConfig, queue: TrialQueue, scheduler: Any, watch: Watch, concurrency: int, storage: Path
) -> Tuner:
    from ray import tune

    from align_dist.search.trainable import TrialTrainable

    shutil.rmtree(storage, ignore_errors=True)
    bundle = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
    resources = tune.PlacementGroupFactory([bundle] * search.ranks_per_trial)
    return tune.Tuner(
        tune.with_resources(TrialTrainable, resources),
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="max",
            search_alg=queue,
            scheduler=scheduler,
            num_samples=-1,  # as many as the queue has
            max_concurrent_trials=concurrency,
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:04}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage.absolute()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
            callbacks=[watch],
        ),
    )


def _wait_for_trials(trials: Sequence[Trial]) -> None:
    """Until no trial and no warm-up is being trained any more, or has had long enough to save."""
    folders = {folder for trial in trials for folder in (trial.folder, trunk_of(trial.config).folder)}
    start = time.monotonic()
    while any(RunFolder(folder).is_held() for folder in folders) and time.monotonic() - start < LETTING_GO:
        time.sleep(0.2)


def _check_ending(results: SearchResults) -> None:
    search, entries = results.search, results.entries
    if entries and all(entry.state is State.FAILED for entry in entries):
        raise UserError(
            f"{search.experiment}: every trial failed, the first with: {entries[0].reason}; "
            f"see trial.log in {entries[0].folder}"
        )
    left = sum(entry.state in (State.NEW, State.INTERRUPTED) for entry in (*entries, *results.confirmations))
    if left:
        raise LostRankError(f"{search.experiment}: {left} trials are not over; the same command goes on")
    if len(entries) < search.samples:
        raise ConfigError(f"samples: the space seems to hold {len(entries)} different trials only; lower it to that")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While inside, no other process runs this search. Raises ConfigError where one does, StorageError where the
    folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".searching").touch()
    except OSError as error:
        raise unwritable(folder, error) from None
    with locked(folder / ".searching", wait=False) as mine:
        if not mine:
            raise ConfigError(f"{folder}: another process runs this search; wait for it, or end it")
        yield


def _check_same(search: SearchConfig, folder: Path) -> None:
    """Raises ConfigError where the folder holds trials of another search, DataError for a beton that is not its own."""
    beton_of(search.base().benchmark)  # or every trial would end with what this raises
    path, identity = folder / "description.json", json.loads(json.dumps(search.identity()))
    if not path.exists() or not any(folder.glob(f"*/{SUGGESTED}")):
        write_text(path, json.dumps(identity, indent=1) + "\n")
        return
    before = read_json(path)
    differing = [key for key in identity if identity[key] != before.get(key)]
    if differing:
        raise ConfigError(
            f"{folder}: holds another search ({', '.join(differing)} differ); choose another experiment or delete it"
        )


def check_trials(search: SearchConfig, trials: Sequence[Trial]) -> None:
    """Raises ConfigError for what would come out only once a warm-up is paid for: a run whose lengths do not go
    together, and a first rung after every trial's last validation.
    """
    most = _most_validations(search, trials)
    if search.scheduler.kind == "asha" and search.scheduler.grace >= most:
        raise ConfigError(
            f"scheduler.grace: {search.scheduler.grace} guided validations are no less than any trial has ({most}), "
            "nothing would be stopped; lower it"
        )


def _most_validations(search: SearchConfig, trials: Sequence[Trial]) -> int:
    """Of the trial that has most of them; where they are asked for later, of any that may be."""
    later = length_variants(search, search.base()) if len(trials) < search.samples else ()
    return most_validations([*(trial.config for trial in trials), *later])


def show_plan(search: SearchConfig) -> None:
    """Prints the trials that are known before training, their warm-ups, and the epochs that they will cost."""
    trials = known_trials(search).trials
    check_trials(search, trials)
    lengths = [schedule_of(trial.config).length for trial in trials]
    for trial, length in zip(trials, lengths, strict=True):
        step = branch_step(trial.config) if search.share_warmup else 0
        warmup = f"from step {step} of {trunk_of(trial.config).folder.name}" if step else "no shared warm-up"
        print(f"{trial}, {warmup}, {length} steps: {trial.folder}")
    if len(trials) < search.samples:
        print(f"{search.samples - len(trials)} trials follow from what others score ({search.algorithm}): no list yet")
    if search.confirm is not None:
        print(f"then, not counted here, the best {search.confirm.finalists} on {search.confirm.seeds} other seeds")
    if trials:
        print(cost_of(search, trials, lengths))
    silent = silent_in_warmup(search.base().method)
    for key, distribution in sorted(search.space.items()):
        acts = not any(key == name or key.startswith(f"{name}.") for name in silent)
        if search.share_warmup and acts and not isinstance(distribution, Choice):
            print(f"note: {key} acts in warm-up and has a range, so that hardly two trials share a warm-up")
