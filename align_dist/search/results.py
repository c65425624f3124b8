"""Results of a search: search.json, best.yaml, a table and TensorBoard's page, all from the run folders."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from align_dist.config import to_yaml
from align_dist.files import write_text
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State
from align_dist.runs.warmup import Cost, branch_step, cost_of, trunk_of
from align_dist.search.config import SearchConfig, default_space
from align_dist.search.sampler import NUMBER, study_of
from align_dist.search.trials import ENDED, Trial, TrialStatus, confirmations_of, ranked, trial_status
from align_dist.training_plan import schedule_of


@dataclass(frozen=True)
class Finalist:
    """A trial's number, its objective on the seed of its selection, and on each other that it came to the end of.

    failed: on how many of those it did not. mean, error: over the other seeds, for the seed of selection was the
    luckiest, with the standard error; None where there are too few.
    """

    number: int
    selected_on: float
    others: Sequence[float]
    failed: int
    mean: float | None
    error: float | None

    def __str__(self) -> str:
        """Such as `0.9611 ± 0.0061 over 2 other seeds`."""
        error = "" if self.error is None else f" ± {self.error:.4f}"
        average = "failed" if self.mean is None else f"{self.mean:.4f}{error}"
        return f"{average} over {len(self.others) or self.failed} other seeds"


@dataclass(frozen=True)
class SearchResults:
    """All that a search knows. entries: the trials by number. confirmations: the finalists on other seeds. finalists:
    the best first, once they are confirmed. best: the best trial's number, by its mean over seeds where that is
    confirmed. front: of Pareto, by accuracy. cost: of what was trained, steps done twice counting once.
    """

    search: SearchConfig
    entries: Mapping[int, TrialStatus]
    confirmations: Sequence[TrialStatus]
    finalists: Sequence[Finalist]
    best: int | None
    front: Sequence[int]
    cost: Cost


def read_results(search: SearchConfig, trials: Sequence[Trial]) -> SearchResults:
    """Read every trial's folder."""
    entries = {t.number: trial_status(t, search.objective) for t in sorted(trials, key=lambda trial: trial.number)}
    confirmations = [trial_status(trial, search.objective) for trial in confirmations_of(search, trials)]
    every = [*entries.values(), *confirmations]
    cost = cost_of([entry.trial.config for entry in every], [entry.steps for entry in every], search.share_warmup)
    finalists = rank_finalists(entries, confirmations)
    confirmed = [finalist.number for finalist in finalists if finalist.mean is not None]
    best = next(iter([*confirmed, *(entry.trial.number for entry in ranked(entries.values()))]), None)
    finished = [entry.trial for entry in entries.values() if entry.state is State.TRAINED]
    undominated = study_of(search, finished).best_trials if search.objective.kind == "pareto" else []
    front = [trial.user_attrs[NUMBER] for trial in sorted(undominated, key=lambda trial: trial.values)]
    return SearchResults(search, entries, confirmations, finalists, best, front, cost)


def rank_finalists(entries: Mapping[int, TrialStatus], confirmations: Sequence[TrialStatus]) -> list[Finalist]:
    """Finalists by the mean over the other seeds, the best first; one that failed on a seed comes after the others.

    Empty until every confirmation has ended.
    """
    if any(entry.state not in ENDED for entry in confirmations):
        return []
    finalists = []
    for number in dict.fromkeys(entry.trial.confirms for entry in confirmations if entry.trial.confirms is not None):
        repeats = [entry for entry in confirmations if entry.trial.confirms == number]
        others = [e.objective for e in repeats if e.state is State.TRAINED and e.objective is not None]
        average = round(mean(others), 6) if others else None
        error = round(stdev(others) / math.sqrt(len(others)), 6) if len(others) > 1 else None
        own = entries[number].objective or 0.0
        finalists.append(Finalist(number, own, others, len(repeats) - len(others), average, error))
    return sorted(finalists, key=lambda f: (f.failed, math.inf if f.mean is None else -f.mean, f.number))


def write_results(results: SearchResults) -> None:
    """search.json, best.yaml and front-<n>.yaml into the search's folder, the trials into TensorBoard's page."""
    folder = results.search.folder()
    write_text(folder / "search.json", json.dumps(as_json(results), indent=1, ensure_ascii=False) + "\n")
    for old in folder.glob("front-*.yaml"):
        old.unlink()  # what was on the front of fewer trials
    for number in results.front:
        _write_config(results, number, folder / f"front-{number:04}.yaml")
    if results.best is not None:
        _write_config(results, results.best, folder / "best.yaml")
    for entry in (*results.entries.values(), *results.confirmations):
        _write_hparams(entry)


def as_json(results: SearchResults) -> dict[str, Any]:
    """The content of search.json."""
    search, cost = results.search, results.cost
    trials = {number: _record(search, entry) for number, entry in results.entries.items()}
    ratio = round(cost.sharing / cost.alone, 4) if cost.alone else 1.0
    epochs = {"epochs_with_sharing": round(cost.sharing, 3), "epochs_without_sharing": round(cost.alone, 3)}
    return {
        **search.model_dump(mode="json", include={"experiment", "algorithm", "scheduler", "objective"}),
        "best": None if results.best is None else trials[results.best],
        "front": list(results.front),
        "finalists": [asdict(finalist) for finalist in results.finalists],
        "confirmations": [_record(search, entry) for entry in results.confirmations],
        "cost": epochs | {"ratio": ratio},
        "trials": list(trials.values()),
    }


def _record(search: SearchConfig, entry: TrialStatus) -> dict[str, Any]:
    """A trial's line. metrics: on source validation. validations: since guidance began. steps: with those of its
    warm-up, the trunk, which the trial leaves at branch_step.
    """
    trial, config = entry.trial, entry.trial.config
    branch = branch_step(config) if search.share_warmup else 0
    trunk = str(trunk_of(config).folder) if branch else None
    run = {"number": trial.number, "confirms": trial.confirms, "seed": config.seed, "values": trial.values}
    place = {"id": config.identity, "folder": str(trial.folder), "trunk": trunk, "branch_step": branch}
    length = schedule_of(config).length
    state = {"state": entry.state, "reason": entry.reason, "steps": entry.steps, "length": length}
    score = {"objective": entry.objective, "metrics": entry.metrics, "selected_step": entry.selected}
    return run | place | state | score | {"validations": entry.validations}


def _write_config(results: SearchResults, number: int, path: Path) -> None:
    entry = results.entries[number]
    confirmed = "".join(f", {finalist}" for finalist in results.finalists if finalist.number == number)
    head = (
        f"# Trial {number} of the search {results.search.experiment}, source validation {entry.objective}{confirmed}.\n"
    )
    command = (
        f"#\n#   align-dist train {path}\n#\n# goes on in the trial's own folder, and measures it on every domain.\n"
    )
    write_text(path, head + command + to_yaml(entry.trial.config))


def _write_hparams(entry: TrialStatus) -> None:
    """A trial's settings and objective into its events, once per outcome."""
    trial, selected, events = entry.trial, entry.selected or 0, RunFolder(entry.trial.folder).events
    if entry.objective is None or not events.is_dir():
        return
    from align_dist.training.hyperparameters import write_hyperparameters

    writer = f"search-{selected}-{entry.objective:.6f}"
    if any(events.rglob(f"*.{writer}")):
        return
    for old in events.rglob("*.search-*"):
        old.unlink()
    shown = (*default_space(trial.config.method), "training.warmup")  # of every run, whether searched or not
    others = {key: "none" if value is None else value for key, value in trial.values.items() if key not in shown}
    metrics = {"search/objective": entry.objective, **{f"search/{name}": v for name, v in entry.metrics.items()}}
    write_hyperparameters(events, trial.config, metrics, selected, writer, others)
