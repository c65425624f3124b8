"""One trial of a search: an ordinary run that is told nothing of any target domain.

What it reports is measured on the source domains' validation part. Its folder ends up with trial.json, and with
`align-dist train` on its config.yaml becomes a finished run: same folder, same weights, then measured on the targets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from align_dist.assembly import Assembly
from align_dist.config import RunConfig
from align_dist.errors import CheckpointError
from align_dist.evaluation.evaluate import measure
from align_dist.files import write_text
from align_dist.run import Say, carry_through
from align_dist.runs.folder import RunFolder
from align_dist.runs.position import Position
from align_dist.search.outcome import OUTCOME, Report, read_outcome, read_reports
from align_dist.training.signals import StopRequest

FAITHFULNESS = ("sufficiency", "comprehensiveness", "insertion_auc")


def searchable(config: RunConfig) -> RunConfig:
    """A run as a search trains it: a checkpoint with every validation, and no selection that looks at a target.

    Neither changes its weights, its identity or its folder.
    """
    training = config.training.model_copy(update={"checkpoint_every": config.training.validate_every})
    kept = tuple(name for name in config.evaluation.selections if name != "oracle") or ("validation",)
    evaluation = config.evaluation.model_copy(update={"selections": kept})
    return config.model_copy(update={"training": training, "evaluation": evaluation})


def carry_out_trial(config: RunConfig, report: Callable[[Report], None], faithful: bool, say: Say) -> Report | None:
    """Trains a trial from where its folder says it is; returns the report of the weights that it selected, None for
    one that is to pause (training.until).

    report: called on every rank with each validation after guidance began, where warm-up can no longer explain it.
    faithful: whether explanations are measured too (slow). Raises what training raises. A finished trial returns
    at once.
    """
    path = config.folder / OUTCOME
    if path.exists():
        return read_outcome(config.folder)

    def observe(run: Assembly, step: int, values: dict[str, float]) -> None:
        if not run.schedule.selectable(step):
            return
        metrics = {"accuracy": values["validation/accuracy"]}
        if faithful:
            found = measure(run.reading(), run.split.validation)
            metrics |= {name: found[name] for name in FAITHFULNESS}
        made = Report(step, (step - run.schedule.warmup) / run.schedule.epoch, metrics)
        run.group.first(lambda: _append(config.folder, made))
        report(made)

    def conclude(run: Assembly, folder: RunFolder, _request: StopRequest, position: Position, _say: Say) -> None:
        run.group.first(lambda: _write_outcome(folder.path, position.validation.step))

    carry_through(searchable(config), say, conclude, observe, sources_only=True)
    if path.exists():
        return read_outcome(config.folder)
    if RunFolder(config.folder).done.exists():
        raise _trained_elsewhere(config.folder)
    return None


def _append(folder: Path, made: Report) -> None:
    with (folder / "reports.jsonl").open("a") as file:
        file.write("\n" + json.dumps(asdict(made)) + "\n")  # a crash may have left half a line
        file.flush()
        os.fsync(file.fileno())  # before the checkpoint that follows


def _write_outcome(folder: Path, selected: int) -> None:
    """The report of the step that model selection chose. Raises CheckpointError where the search has none."""
    chosen = next((made for made in read_reports(folder) if made.step == selected), None)
    if chosen is None:
        raise _trained_elsewhere(folder)
    rounded = {name: round(value, 6) for name, value in chosen.metrics.items()}
    write_text(folder / OUTCOME, json.dumps(asdict(replace(chosen, metrics=rounded))) + "\n")


def _trained_elsewhere(folder: Path) -> CheckpointError:
    return CheckpointError(f"{folder}: was trained by another command, which reports nothing to a search; delete it")
