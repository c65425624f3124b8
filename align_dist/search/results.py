"""What a search found: search.json, best.yaml and a table, all from the run folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align_dist.config import RunConfig, to_yaml
from align_dist.files import write_text
from align_dist.runs.status import State
from align_dist.schema.distributions import Value
from align_dist.search.finalists import Finalist, confirmations_of, rank_finalists
from align_dist.search.folders import Trial, trial_status
from align_dist.search.objective import Pareto, front, goodness_of, value_of
from align_dist.search.plan import Cost, branch_of, cost_at, count_trunks, measured_cost
from align_dist.search.space import SearchConfig
from align_dist.search.trunk import schedule_of

if TYPE_CHECKING:
    from rich.table import Table

PAPER_WARMUP = 200.0  # epochs
PAPER_LENGTHS = (400.0, 300.0, 250.0)  # the paper does not say how long a run is


@dataclass(frozen=True)
class Entry:
    """A trial's line in search.json. objective, metrics: of the selected weights, on source validation. steps: with
    those of its trunk, of which there are branch_step.
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
    guided_epochs: float
    steps: int
    length: int
    trunk: str | None
    branch_step: int
    confirms: int | None


@dataclass(frozen=True)
class Found:
    """All that a search knows. best: the number of the best trial, by its mean over seeds where that is confirmed, and
    finished before stopped. front: of Pareto. finalists: the best first, once they are confirmed. confirmations: the
    finalists on other seeds.
    """

    search: SearchConfig
    trials: Sequence[Trial]
    entries: Sequence[Entry]
    best: int | None
    front: Sequence[int]
    cost: Cost
    trunks: int
    finalists: Sequence[Finalist]
    confirmations: Sequence[Entry]

    def entry(self, number: int) -> Entry:
        return next(entry for entry in self.entries if entry.number == number)

    @property
    def whole_runs(self) -> int:
        """The trials and their confirmations."""
        return len(self.entries) + len(self.confirmations)

    def config(self, number: int) -> RunConfig:
        return next(trial.config for trial in self.trials if trial.number == number)


def find_results(search: SearchConfig, trials: Sequence[Trial]) -> Found:
    """Reads every trial's folder."""
    entries = [_entry(search, trial) for trial in trials]
    confirming = confirmations_of(search, trials)
    finalists = rank_finalists(search, trials, confirming)
    every = [*trials, *confirming]
    return Found(
        search,
        trials,
        entries,
        best=finalists[0].number if finalists and finalists[0].others else best_of(entries),
        front=_front(search, entries),
        cost=measured_cost(search, every),
        trunks=count_trunks(search, every),
        finalists=finalists,
        confirmations=[_entry(search, trial) for trial in confirming],
    )


def _entry(search: SearchConfig, trial: Trial) -> Entry:
    found, branch = trial_status(trial.folder), branch_of(search, trial)
    metrics = {} if found.chosen is None else found.chosen.metrics
    return Entry(
        number=trial.number,
        seed=trial.config.seed,
        values=trial.values,
        id=trial.config.identity,
        folder=str(trial.folder),
        state=found.state,
        reason=found.reason,
        objective=round(value_of(search.objective, metrics), 6) if metrics else None,
        metrics={name: round(value, 6) for name, value in metrics.items()},
        selected_step=None if found.chosen is None else found.chosen.step,
        guided_epochs=found.reports[-1].guided_epochs if found.reports else 0.0,
        steps=found.steps,
        length=schedule_of(trial.config).length,
        trunk=str(branch.trunk) if branch.step else None,
        branch_step=branch.step,
        confirms=trial.confirms,
    )


def best_of(entries: Sequence[Entry]) -> int | None:
    """The number of the best finished trial, or of the best that was stopped where none finished; of equals the first.

    One that was stopped early has been measured after less guidance than those it would be compared with.
    """
    for state in (State.FINISHED, State.STOPPED):
        ranked = [(entry.objective, -entry.number) for entry in entries if entry.state == state and entry.metrics]
        if ranked:
            return -max((objective, number) for objective, number in ranked if objective is not None)[1]
    return None


def _front(search: SearchConfig, entries: Sequence[Entry]) -> list[int]:
    if not isinstance(search.objective, Pareto):
        return []
    finished = [entry for entry in entries if entry.state is State.FINISHED and entry.metrics]
    kept = front([goodness_of(search.objective, entry.metrics) for entry in finished])
    return [finished[i].number for i in kept]


def write_found(found: Found) -> Path:
    """search.json, best.yaml and front-<n>.yaml into the search's folder, which is returned."""
    folder = folder_of(found.search)
    write_text(folder / "search.json", json.dumps(as_json(found), indent=1, ensure_ascii=False) + "\n")
    if found.best is not None:
        _write_config(found, found.best, folder / "best.yaml")
    for old in folder.glob("front-*.yaml"):
        old.unlink()  # what was on the front of fewer trials
    for number in found.front:
        _write_config(found, number, folder / f"front-{number:04}.yaml")
    return folder


def folder_of(search: SearchConfig) -> Path:
    """`<runs>/<experiment>`."""
    return search.base().runs / search.experiment


def as_json(found: Found) -> dict[str, Any]:
    """What search.json holds."""
    search = found.search
    return {
        "experiment": search.experiment,
        "algorithm": search.algorithm,
        "scheduler": search.scheduler.kind,
        "objective": search.objective.model_dump(mode="json"),
        "best": None if found.best is None else asdict(found.entry(found.best)),
        "front": list(found.front),
        "finalists": [asdict(finalist) | {"mean": finalist.rounded_mean()} for finalist in found.finalists],
        "confirmations": [asdict(entry) for entry in found.confirmations],
        "cost": cost_as_json(found.cost, found.whole_runs, found.trunks),
        "trials": [asdict(entry) for entry in found.entries],
    }


def cost_as_json(cost: Cost, trials: int, trunks: int) -> dict[str, Any]:
    """Epochs with and without sharing, and by formula what it is for the paper's warm-up in runs of some lengths."""
    on_paper = {
        f"{PAPER_WARMUP:g} of {length:g} epochs": round(cost_at(trials, trunks, PAPER_WARMUP, length).ratio, 4)
        for length in PAPER_LENGTHS
    }
    return {
        "epochs_with_sharing": round(cost.sharing, 3),
        "epochs_without_sharing": round(cost.alone, 3),
        "ratio": round(cost.ratio, 4),
        "trials": trials,
        "trunks": trunks,
        "ratio_by_formula_at_the_papers_warmup": on_paper,
    }


def _write_config(found: Found, number: int, path: Path) -> None:
    entry = found.entry(number)
    confirmed = [finalist.in_words() for finalist in found.finalists if finalist.number == number]
    objective = (
        "none yet" if entry.objective is None else f"{entry.objective:.4f}" + "".join(f", {w}" for w in confirmed)
    )
    told = f"# Trial {number} of the search {found.search.experiment}, objective {objective} on source validation.\n"
    command = f"#\n#   align-dist train {path}\n#\n"
    why = "# goes on in the trial's own folder, and measures it on every domain.\n"
    write_text(path, told + command + why + to_yaml(found.config(number)))


def summary_of(found: Found) -> Table:
    """The trials as a table for people, the best first."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    keys = list(found.search.space)
    for name in ("trial", "objective", *(key.rpartition(".")[2] for key in keys), "state", "epochs guided", "run"):
        table.add_column(name, justify="left" if name in ("state", "run") else "right")
    ranked = sorted(found.entries, key=lambda entry: (entry.objective is None, -(entry.objective or 0), entry.number))
    for entry in ranked:
        objective = "–" if entry.objective is None else f"{entry.objective:.4f}"
        values = [str(entry.values.get(key, "")) for key in keys]
        mark = "green" if entry.number == found.best or entry.number in found.front else ""
        name = Path(entry.folder).name
        table.add_row(
            str(entry.number), objective, *values, str(entry.state), f"{entry.guided_epochs:.3g}", name, style=mark
        )
    return table


def cost_line(cost: Cost, trials: int, trunks: int) -> str:
    """What sharing saved, in one line."""
    paper = cost_at(trials, trunks, PAPER_WARMUP, PAPER_LENGTHS[0]).ratio
    on_paper = f"by formula {paper:.3f} at {PAPER_WARMUP:g} of {PAPER_LENGTHS[0]:g} epochs"
    return (
        f"{cost.sharing:.1f} epochs, {cost.alone:.1f} without sharing warm-up: {cost.ratio:.3f} of them "
        f"({trials} trials on {trunks} trunk{'s' * (trunks != 1)}; {on_paper})"
    )
