"""The trials of a search that are not over, carried out by Ray Tune."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from ray import tune
from ray.exceptions import RayError
from ray.tune import Callback
from ray.tune.error import TuneError

from align_dist.errors import LostRankError, MachineError, Preempted
from align_dist.parallel.group import Group
from align_dist.runs.folder import RunFolder
from align_dist.search.board import Board
from align_dist.search.folders import Trial, mark_stopped, trial_status
from align_dist.search.job import Job, metrics_of
from align_dist.search.outcome import read_reports
from align_dist.search.plan import (
    Ended,
    Next,
    guidance_of,
    longest_guidance,
    one_after_another,
    passing_steps,
    taking_turns,
)
from align_dist.search.scheduler import GuidedASHA
from align_dist.search.space import SearchConfig
from align_dist.search.suggest import Suggestions
from align_dist.search.trainable import train_trial
from align_dist.training.signals import StopRequest

ATTEMPTS = 3  # starts of a trial that is killed from outside, in one search


def run_trials(search: SearchConfig, trials: list[Trial], request: StopRequest, board: Board) -> None:
    """Trains every trial that is not over, and those that an adaptive search adds to the list.

    Raises Preempted where something asked for a stop, LostRankError where Ray does not go on.
    """
    check_room(search)
    following, ended = _source(search, trials)
    watch = _Watch(trials, request, board)
    suggestions = Suggestions(following, ended, lambda trial: passing_steps(search, trial))
    try:
        with redirect_stdout(io.StringIO()):  # Ray prints a few lines at verbose=0 too
            _tuner(search, trials, suggestions, watch).fit()
    except (RayError, TuneError) as error:
        reason = " ".join(str(error).strip().splitlines()[-1:])[:200]
        raise LostRankError(f"Ray ended: {reason}; trials have saved, the same command goes on") from None
    finally:
        board.close()


def _source(search: SearchConfig, trials: list[Trial]) -> tuple[Next, Ended]:
    pending = taking_turns(search, [trial for trial in trials if not trial_status(trial.folder).over])
    if search.algorithm == "random":
        return one_after_another(pending), lambda _: None
    from align_dist.search.adaptive import adaptive

    return adaptive(search, trials, pending)


def _tuner(search: SearchConfig, trials: list[Trial], suggestions: Suggestions, watch: _Watch) -> tune.Tuner:
    storage = (search.base().runs / search.experiment / "ray").absolute()
    shutil.rmtree(storage, ignore_errors=True)
    job = Job(search.model_dump(mode="json"), os.getcwd())
    resources = {"cpu": search.cpus_per_trial, "gpu": search.gpus_per_trial}
    if search.ranks_per_trial > 1:
        resources = {"cpu": 0, "memory": 1}  # the ranks have the rest; nothing at all is no request to Ray
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(train_trial, job=job), resources),
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="max",
            search_alg=suggestions,
            scheduler=_scheduler(search, trials),
            num_samples=len(trials) if search.algorithm == "random" else search.samples,
            max_concurrent_trials=concurrency(search),
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:04}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
            callbacks=[watch],
        ),
    )


def concurrency(search: SearchConfig) -> int:
    """How many trials run at once: what was asked for, or as many as Ray's machines hold."""
    import ray

    if search.concurrency is not None:
        return search.concurrency
    return max(1, _places(search, ray.nodes()) // search.ranks_per_trial)


def check_room(search: SearchConfig) -> None:
    """Raises MachineError where Ray's machines hold no single trial, which Ray would wait for without a word."""
    import ray

    places = _places(search, ray.nodes())
    if places < search.ranks_per_trial:
        machines = ", ".join(
            f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in _rooms(ray.nodes())
        )
        raise MachineError(
            f"a trial is {search.ranks_per_trial} × ({search.cpus_per_trial:g} CPUs, {search.gpus_per_trial:g} GPUs); "
            f"Ray's machines have {machines}; lower cpus_per_trial, gpus_per_trial or ranks_per_trial, or ask for more"
        )


def _rooms(nodes: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [node["Resources"] for node in nodes if node["Alive"]]


def _places(search: SearchConfig, nodes: Sequence[dict[str, Any]]) -> int:
    """How many ranks Ray's machines hold at once; a rank is never over two of them."""
    wanted = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
    each = [min(int(room.get(name, 0) / number) for name, number in wanted.items() if number) for room in _rooms(nodes)]
    return sum(each)


def _scheduler(search: SearchConfig, trials: Sequence[Trial]) -> Any:
    if search.scheduler.kind == "none":
        return None

    def guided(number: int) -> float:
        return guidance_of(_numbered(trials, number).config)

    def stop(number: int, reason: str) -> None:
        mark_stopped(_numbered(trials, number).folder, reason)

    earlier = {trial.number: [metrics_of(search, report) for report in read_reports(trial.folder)] for trial in trials}
    return GuidedASHA(search.scheduler, longest_guidance(search, trials), guided, stop, earlier)


def _numbered(trials: Sequence[Trial], number: int) -> Trial:
    return next(trial for trial in trials if trial.number == number)


class _Watch(Callback):  # type: ignore[misc]
    """Shows what goes on, and leaves Ray's loop when something asked for a stop."""

    def __init__(self, trials: Sequence[Trial], request: StopRequest, board: Board) -> None:
        self._trials, self._request, self._board = trials, request, board
        self._running: set[int] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.add(trial.config["number"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.discard(trial.config["number"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """What no process of the trial could put on record, such as that there was none, is so here."""
        number = trial.config["number"]
        self._running.discard(number)
        folder = RunFolder(_numbered(self._trials, number).folder)
        if folder.ending() is None:
            said = str(trial.get_error() or "Ray gave it up without a word").strip().splitlines()
            folder.end_badly(LostRankError.exit_code, said[-1].strip()[:300])

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._board.update(self._trials, self._running)
        if self._request.agreed(Group()):
            raise Preempted(f"{self._request.name}: stops; the same command goes on")
