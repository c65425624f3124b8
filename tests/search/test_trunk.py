"""A trial that branches off a shared warm-up is the same trial from scratch, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from weights import assert_same_weights

from align_dist.assembly import assemble
from align_dist.config import RunConfig, parse_config
from align_dist.data.draws import unaugmented
from align_dist.run import carry_out
from align_dist.search.outcome import Report, read_reports
from align_dist.search.trial import carry_out_trial
from align_dist.search.trunk import begin_from_trunk, branch_step, trunk_of

TRUNKS = "search/trunks"


def changed(config: RunConfig, **parts: dict[str, Any]) -> RunConfig:
    values = config.model_dump(mode="json")
    for name, entries in parts.items():
        values[name] |= entries
    return parse_config(values)


def under(config: RunConfig, path: Path) -> RunConfig:
    return config.model_copy(update={"runs": path})


@pytest.mark.parametrize(
    "other",
    [
        {"align": {"lambda1": 7.0, "lambda2": 0.7, "lambda3": 3.0}},
        {"training": {"warmup": "16 steps"}},
        {"align": {"masker": {"width": 6}}},
    ],
    ids=lambda other: ".".join(next(iter(other.items()))[1]),
)
def test_what_is_silent_in_warmup_shares_a_trunk(squares: RunConfig, other: dict[str, dict[str, Any]]) -> None:
    assert trunk_of(changed(squares, **other), TRUNKS).folder == trunk_of(squares, TRUNKS).folder


@pytest.mark.parametrize(
    "other",
    [
        {"align": {"lambda4": 1.0}},
        {"data": {"batch_size": 16}},
        {"classifier": {"optimiser": {"learning_rate": 1e-4}}},
        {"training": {"precision": "bfloat16"}},
    ],
    ids=lambda other: ".".join(next(iter(other.items()))[1]),
)
def test_what_acts_in_warmup_does_not(squares: RunConfig, other: dict[str, dict[str, Any]]) -> None:
    assert trunk_of(changed(squares, **other), TRUNKS).folder != trunk_of(squares, TRUNKS).folder


def test_erm_has_no_warmup_to_share(squares: RunConfig) -> None:
    assert branch_step(squares) == 10
    assert branch_step(squares.with_method("erm")) == 0
    assert branch_step(changed(squares, align={"masker_head_start": "4 steps"})) == 6


def test_branched_trials_equal_the_same_trials_from_scratch(squares: RunConfig, tmp_path: Path) -> None:
    """The longest warm-up first, so that the trunk has to go back for the others; λ1 to λ3 and the masker differ.

    Whatever saved the trunk has died between its two renames each time: the newest checkpoint is the previous one.
    """
    trials = [
        changed(squares, training={"warmup": "13 steps"}, align={"lambda1": 3.0, "lambda3": 0.3}),
        changed(squares, training={"warmup": "5 steps"}, align={"masker": {"width": 6}}),
        changed(squares, align={"masker_head_start": "3 steps", "lambda2": 1.0}),
    ]
    trained: list[int] = []

    def train_trunk(config: RunConfig) -> None:
        trained.append(int(str(config.training.until).split()[0]))
        carry_out(config, say=lambda _: None)

    for trial in trials:
        branch = begin_from_trunk(under(trial, tmp_path / "shared"), TRUNKS, train_trunk, lambda _: None)
        assert branch.step == branch_step(trial)
        said: list[str] = []
        carry_out(under(trial, tmp_path / "shared"), said.append)
        assert any(f"resuming at step {branch.step} of 24" in line for line in said)
        carry_out(under(trial, tmp_path / "alone"), say=lambda _: None)
        assert_same_weights(under(trial, tmp_path / "shared").folder, under(trial, tmp_path / "alone").folder)
        saved = branch.trunk / "checkpoints"
        (saved / "last.ckpt").rename(saved / "previous.ckpt")
    assert trained == [13, 5, 7]
    begin_from_trunk(under(trials[0], tmp_path / "shared"), TRUNKS, train_trunk, lambda _: None)
    assert trained == [13, 5, 7], "a branch that is there is not trained again"


def test_a_trial_reports_source_validation_alone_and_trains_to_the_same_weights(
    squares: RunConfig, tmp_path: Path
) -> None:
    config = under(squares, tmp_path / "trial")
    reports: list[Report] = []
    outcome = carry_out_trial(config, reports.append, faithful=True, say=lambda _: None)
    assert [made.step for made in reports] == [16, 24], "validation at step 8 was in warm-up"
    assert outcome.metrics["accuracy"] == pytest.approx(max(made.metrics["accuracy"] for made in reports), abs=1e-6)
    assert outcome.metrics.keys() == {"accuracy", "sufficiency", "comprehensiveness", "insertion_auc"}
    assert read_reports(config.folder) == reports
    assert not (config.folder / "results.jsonl").exists()
    assert [path.name for path in (config.folder / "pictures").iterdir()] == ["validation-bright.png"]
    assert "oracle" not in (config.folder / "metrics.jsonl").read_text()
    assert carry_out_trial(config, reports.append, faithful=True, say=lambda _: None) == outcome
    assert len(reports) == 2, "nothing is reported twice"
    plain = under(squares, tmp_path / "plain")
    carry_out(plain, say=lambda _: None)
    assert_same_weights(config.folder, plain.folder)
    carry_out(config, say=lambda _: None)
    rows = [json.loads(line) for line in (config.folder / "results.jsonl").read_text().splitlines()]
    assert {row["domain"] for row in rows} == {"bright", "dark"}, "the ordinary command measures it afterwards"


def test_a_search_cannot_see_a_target(squares: RunConfig) -> None:
    run = assemble(squares, sources_only=True)
    assert run.split.tests == {} and run.split.target_validation == {}
    blind = assemble(squares)
    forbidden = unaugmented(blind.split.tests["dark"][:8])
    assert len(next(blind.loader.all_of(forbidden, 8)).images) == 8
    with pytest.raises(PermissionError):
        next(run.loader.all_of(forbidden, 8))
    assert len(next(run.loader.all_of(unaugmented(run.split.validation), 8)).images)
