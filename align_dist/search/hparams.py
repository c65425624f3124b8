"""A search on TensorBoard's HPARAMS page: what each trial had, and its objective."""

from __future__ import annotations

from pathlib import Path

from align_dist.runs.folder import RunFolder
from align_dist.search.results import Entry, Found
from align_dist.search.space import METHOD, default_space

TELLER = "search"
SHOWN = (*default_space(METHOD), "training.warmup")  # of every run, whether a search varies them or not


def write_hparams(found: Found) -> None:
    """Settings and objective into the events of each trial that has one, once per outcome."""
    for entry in (*found.entries, *found.confirmations):
        events = RunFolder(Path(entry.folder)).events
        if entry.objective is not None and events.is_dir():
            _write(found, entry, entry.objective, events)


def _write(found: Found, entry: Entry, objective: float, events: Path) -> None:
    from align_dist.training.hyperparameters import write_hyperparameters

    teller = f"{TELLER}-{entry.selected_step}-{objective:.6f}"
    if any(events.rglob(f"*.{teller}")):
        return
    for old in events.rglob(f"*.{TELLER}-*"):
        old.unlink()
    config = found.config(entry.number if entry.confirms is None else entry.confirms)
    others = {key: "none" if value is None else value for key, value in entry.values.items() if key not in SHOWN}
    metrics = {"search/objective": objective, **{f"search/{name}": value for name, value in entry.metrics.items()}}
    with_seed = config.model_copy(update={"seed": entry.seed})
    write_hyperparameters(events, with_seed, metrics, entry.selected_step or 0, teller, others)
