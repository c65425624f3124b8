"""A trial is told nothing of targets, and loses no report when it dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from align_dist.assembly import Assembly, assemble
from align_dist.config import RunConfig
from align_dist.errors import CheckpointError
from align_dist.evaluation.evaluate import measure
from align_dist.runs.folder import RunFolder
from align_dist.search import trial
from align_dist.search.outcome import read_reports
from align_dist.search.trial import carry_out_trial


class Died(BaseException):
    """As sudden as SIGKILL: nothing catches it."""


def test_a_trial_that_dies_while_it_measures_measures_again(
    squares: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, measured = squares.model_copy(update={"runs": tmp_path}), list[int]()

    def dies_at_the_second(run: Assembly, samples: object) -> dict[str, float]:
        measured.append(1)
        if len(measured) == 2:
            raise Died
        return measure(run, samples)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "measure", dies_at_the_second)
    with pytest.raises(Died):
        carry_out_trial(config, lambda _: None, faithful=True, say=lambda _: None)
    outcome = carry_out_trial(config, lambda _: None, faithful=True, say=lambda _: None)
    assert [made.step for made in read_reports(config.folder)] == [16, 24]
    assert outcome is not None and outcome.step in (16, 24)

    (config.folder / "trial.json").unlink()
    reports = config.folder / "reports.jsonl"
    reports.rename(tmp_path / "kept")  # as if `align-dist train` had trained it
    with pytest.raises(CheckpointError, match="was trained by another command, which reports nothing to a search"):
        carry_out_trial(config, lambda _: None, faithful=True, say=lambda _: None)
    (tmp_path / "kept").rename(reports)
    RunFolder(config.folder).write_results([])
    with pytest.raises(CheckpointError, match="was trained by another command, which reports nothing to a search"):
        carry_out_trial(config, lambda _: None, faithful=True, say=lambda _: None)


def test_an_objective_that_reaches_for_a_target_is_refused(
    squares: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = squares.model_copy(update={"runs": tmp_path})
    target = assemble(squares).split.tests["dark"]

    def peeks(run: Assembly, _samples: object) -> dict[str, float]:
        return measure(run, target)

    monkeypatch.setattr(trial, "measure", peeks)
    with pytest.raises(PermissionError):
        carry_out_trial(config, lambda _: None, faithful=True, say=lambda _: None)
    assert read_reports(config.folder) == [] and not (config.folder / "trial.json").exists()
