"""What a search has shown: search.json, best.yaml, a table and TensorBoard's page, all from the run folders."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from align_dist.assembly import schedule_of
from align_dist.config import RunConfig, to_yaml
from align_dist.files import write_text
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State
from align_dist.runs.warmup import Cost, branch_step, trunk_of
from align_dist.schema.distributions import Value
from align_dist.search.config import SearchConfig, default_space
from align_dist.search.trials import ENDED, Trial, confirmations_of, trial_status

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Entry:
    """A trial's line in search.json. objective, metrics: of the selected weights, on source validation. validations:
    since guidance began. steps: with those of its warm-up, of which there are branch_step.
    """

    number: int
    seed: int
    values: dict[str, Value]
    id: str
    folder: str
    state: State
    reason: str
    objective: float | None
    metrics: dict[str, float]
    selected_step: int | None
    validations: int
    steps: int
    length: int
    trunk: str | None
    branch_step: int
    confirms: int | None


@dataclass(frozen=True)
class Finalist:
    """A trial's number, its objective on the seed it was selected on, and on each other that it came to the end of.
    failed: on how many of those it did not. mean, error: over the other seeds, the seed of selection being luckier, with
    the standard error; None of no seed, and of one.
    """

    number: int
    selected_on: float
    others: Sequence[float]
    failed: int
    mean: float | None
    error: float | None

    def __str__(self) -> str:
        """Such as `0.9611 ± 0.0061 over 2 other seeds`."""
        if self.mean is None:
            return f"failed on all of {self.failed} other seeds"
        error = "" if self.error is None else f" ± {self.error:.4f}"
        return f"{self.mean:.4f}{error} over {len(self.others)} other seed{'s' * (len(self.others) != 1)}"


@dataclass(frozen=True)
class SearchResults:
    """All that a search knows. best: the number of the best trial, by its mean over seeds where that is confirmed, and
    finished before stopped. front: of Pareto. finalists: the best first, once they are confirmed. confirmations: the
    finalists on other seeds. cost: of what was trained, steps done twice counting once.
    """

    search: SearchConfig
    trials: Sequence[Trial]
    entries: Sequence[Entry]
    best: int | None
    front: Sequence[int]
    cost: Cost
    finalists: Sequence[Finalist]
    confirmations: Sequence[Entry]


def read_results(search: SearchConfig, trials: Sequence[Trial]) -> SearchResults:
    """Reads every trial's folder."""
    trials = sorted(trials, key=lambda trial: trial.number)
    confirming = confirmations_of(search, trials)
    entries, confirmations = [[_entry(search, trial) for trial in some] for some in (trials, confirming)]
    finalists = rank_finalists(entries, confirmations)
    confirmed = [finalist.number for finalist in finalists if finalist.mean is not None]
    best = confirmed[0] if confirmed else best_of(entries)
    front = front_of(search, entries) if search.objective.kind == "pareto" else []
    cost = cost_of(search, [*trials, *confirming], [entry.steps for entry in (*entries, *confirmations)])
    return SearchResults(search, trials, entries, best, front, cost, finalists, confirmations)


def _entry(search: SearchConfig, trial: Trial) -> Entry:
    status = trial_status(trial, search.objective)
    metrics = {} if status.selected is None else status.selected.metrics
    branch = branch_step(trial.config) if search.share_warmup else 0
    return Entry(
        number=trial.number,
        seed=trial.config.seed,
        values=trial.values,
        id=trial.config.identity,
        folder=str(trial.folder),
        state=status.state,
        reason=status.reason,
        objective=round(search.objective.value(metrics), 6) if metrics else None,
        metrics={name: round(value, 6) for name, value in metrics.items()},
        selected_step=None if status.selected is None else status.selected.step,
        validations=len(status.validations),
        steps=status.steps,
        length=schedule_of(trial.config).length,
        trunk=str(trunk_of(trial.config).folder) if branch else None,
        branch_step=branch,
        confirms=trial.confirms,
    )


def best_of(entries: Sequence[Entry]) -> int | None:
    """The number of the best finished trial, or of the best that was stopped where none finished; of equals the first.

    One that was stopped early has been measured after less guidance than those it would be compared with.
    """
    for state in (State.FINISHED, State.STOPPED):
        ranked = [
            (entry.objective, -entry.number)
            for entry in entries
            if entry.state is state and entry.objective is not None
        ]
        if ranked:
            return -max(ranked)[1]
    return None


def front_of(search: SearchConfig, entries: Sequence[Entry]) -> list[int]:
    """The numbers of the finished trials that no other is better than, in order of their accuracy."""
    points = {
        entry.number: search.objective.values(entry.metrics)
        for entry in entries
        if entry.state is State.FINISHED and entry.metrics
    }

    def beaten(point: list[float]) -> bool:
        return any(
            all(a >= b for a, b in zip(other, point, strict=True)) and other != point for other in points.values()
        )

    return sorted((number for number, point in points.items() if not beaten(point)), key=lambda number: points[number])


def rank_finalists(entries: Sequence[Entry], confirmations: Sequence[Entry]) -> list[Finalist]:
    """By the mean over the other seeds, the best first; one that failed on a seed comes after all that did not.

    Empty until every confirmation has ended.
    """
    if any(entry.state not in ENDED for entry in confirmations):
        return []
    ranked = []
    for number in dict.fromkeys(entry.confirms for entry in confirmations):
        again = [entry for entry in confirmations if entry.confirms == number]
        others = [e.objective for e in again if e.state is State.FINISHED and e.objective is not None]
        error = stdev(others) / math.sqrt(len(others)) if len(others) > 1 else None
        (own,) = [entry for entry in entries if entry.number == number]
        average = round(mean(others), 6) if others else None
        ranked.append(Finalist(own.number, own.objective or 0.0, others, len(again) - len(others), average, error))
    return sorted(ranked, key=lambda f: (f.failed, -math.inf if f.mean is None else -f.mean, f.number))


def cost_of(search: SearchConfig, trials: Sequence[Trial], steps: Sequence[int]) -> Cost:
    """Of so many steps of each trial. Where warm-up is shared, its longest part of each trunk counts once."""
    trunks: dict[Path, float] = {}
    alone = sharing = 0.0
    for trial, trained in zip(trials, steps, strict=True):
        epoch, trunk = schedule_of(trial.config).epoch, trunk_of(trial.config).folder
        shared = min(trained, branch_step(trial.config)) if search.share_warmup else 0
        alone += trained / epoch
        sharing += (trained - shared) / epoch
        trunks[trunk] = max(trunks.get(trunk, 0.0), shared / epoch)
    return Cost(sharing + sum(trunks.values()), alone)


def write_results(results: SearchResults) -> None:
    """search.json, best.yaml and front-<n>.yaml into the search's folder, the trials into TensorBoard's page."""
    folder = results.search.folder()
    write_text(folder / "search.json", json.dumps(as_json(results), indent=1, ensure_ascii=False) + "\n")
    if results.best is not None:
        _write_config(results, results.best, folder / "best.yaml")
    for old in folder.glob("front-*.yaml"):
        old.unlink()  # what was on the front of fewer trials
    for number in results.front:
        _write_config(results, number, folder / f"front-{number:04}.yaml")
    for entry in (*results.entries, *results.confirmations):
        _write_hparams(results, entry)


def as_json(results: SearchResults) -> dict[str, Any]:
    """What search.json holds."""
    search, cost = results.search, results.cost
    return {
        "experiment": search.experiment,
        "algorithm": search.algorithm,
        "scheduler": search.scheduler.kind,
        "objective": search.objective.model_dump(mode="json", exclude_none=True),
        "best": next((asdict(entry) for entry in results.entries if entry.number == results.best), None),
        "front": list(results.front),
        "finalists": [asdict(finalist) for finalist in results.finalists],
        "confirmations": [asdict(entry) for entry in results.confirmations],
        "cost": {
            "epochs_with_sharing": round(cost.sharing, 3),
            "epochs_without_sharing": round(cost.alone, 3),
            "ratio": round(cost.sharing / cost.alone, 4) if cost.alone else 1.0,
        },
        "trials": [asdict(entry) for entry in results.entries],
    }


def _config_of(results: SearchResults, number: int) -> RunConfig:
    return next(trial.config for trial in results.trials if trial.number == number)


def _write_config(results: SearchResults, number: int, path: Path) -> None:
    (entry,) = [entry for entry in results.entries if entry.number == number]
    confirmed = "".join(f", {finalist}" for finalist in results.finalists if finalist.number == number)
    objective = "none yet" if entry.objective is None else f"{entry.objective:.4f}{confirmed}"
    head = f"# Trial {number} of the search {results.search.experiment}, objective {objective} on source validation.\n"
    command = (
        f"#\n#   align-dist train {path}\n#\n# goes on in the trial's own folder, and measures it on every domain.\n"
    )
    write_text(path, head + command + to_yaml(_config_of(results, number)))


def _write_hparams(results: SearchResults, entry: Entry) -> None:
    """A trial's settings and objective into its events, once per outcome."""
    events = RunFolder(Path(entry.folder)).events
    if entry.objective is None or not events.is_dir():
        return
    from align_dist.training.hyperparameters import write_hyperparameters

    writer = f"search-{entry.selected_step}-{entry.objective:.6f}"
    if any(events.rglob(f"*.{writer}")):
        return
    for old in events.rglob("*.search-*"):
        old.unlink()
    config = _config_of(results, entry.number if entry.confirms is None else entry.confirms)
    shown = (*default_space(config.method), "training.warmup")  # of every run, whether a search varies them or not
    others = {key: "none" if value is None else value for key, value in entry.values.items() if key not in shown}
    metrics = {"search/objective": entry.objective, **{f"search/{name}": v for name, v in entry.metrics.items()}}
    with_seed = config.model_copy(update={"seed": entry.seed})
    write_hyperparameters(events, with_seed, metrics, entry.selected_step or 0, writer, others)


def show_results(results: SearchResults) -> None:
    """Prints the trials, the best, and the cost."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(_table_of(results))
    for finalist in results.finalists:
        print(f"finalist: trial {finalist.number}: {finalist}, {finalist.selected_on:.4f} on the seed of its selection")
    print(results.cost)
    folder = results.search.folder()
    for number in results.front:
        print(f"on the front: trial {number}: {folder / f'front-{number:04}.yaml'}")
    if results.best is not None:
        print(f"best: trial {results.best}: {folder / 'best.yaml'}")
    print(folder / "search.json")


def _table_of(results: SearchResults) -> Table:
    """The trials, the best first."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    keys = list(results.search.space)
    for name in ("trial", "objective", *(key.rpartition(".")[2] for key in keys), "state", "step", "run"):
        table.add_column(name, justify="left" if name in ("state", "run") else "right")
    for entry in sorted(results.entries, key=lambda entry: (entry.objective is None, -(entry.objective or 0))):
        objective = "–" if entry.objective is None else f"{entry.objective:.4f}"
        values = [str(entry.values.get(key, "")) for key in keys]
        style = "green" if entry.number == results.best or entry.number in results.front else ""
        step, name = f"{entry.steps}/{entry.length}", Path(entry.folder).name
        table.add_row(str(entry.number), objective, *values, str(entry.state), step, name, style=style)
    return table
