"""Runs on a benchmark that has groups and a split of its own."""

from __future__ import annotations

import json

import pytest
from refusals import raises

from align_dist.assembly import assemble
from align_dist.config import RunConfig
from align_dist.errors import ConfigError
from align_dist.report.rows import finished_rows, read_runs
from align_dist.report.tables import group_table
from align_dist.run import train_run
from align_dist.runs.selection import load_selected

GROUPS = ["left high", "left low", "right high", "right low"]


def test_groups_are_measured_and_weights_are_chosen_by_the_worst(grouped: RunConfig) -> None:
    folder = train_run(grouped)
    recorded = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    validations = [line for line in recorded if "validation/worst_group_accuracy" in line]
    assert [line["step"] for line in validations] == [8, 16, 24]
    for line in validations:
        accuracies = [line[f"validation/accuracy_of_group/{name}"] for name in GROUPS]
        assert line["validation/worst_group_accuracy"] == min(accuracies)
        assert 0 < line["validation/commonest_cell"] <= 1 and "validation/map_following" in line
    # After warm-up, the later of equals.
    best = max(validations[1:], key=lambda line: (line["validation/worst_group_accuracy"], line["step"]))
    assert load_selected(folder.selected, "validation_worst_group")["step"] == best["step"]
    rows = [json.loads(line) for line in folder.results.read_text().splitlines()]
    assert [(row["selection"], row["domain"]) for row in rows] == [
        (selection, domain) for selection in grouped.evaluation.selections for domain in ("bright", "dark")
    ]
    for row in rows:
        accuracies = [row["metrics"][f"accuracy_of_group/{name}"] for name in GROUPS]
        assert row["metrics"]["worst_group_accuracy"] == min(accuracies)
        # As many of each group train.
        assert row["metrics"]["adjusted_accuracy"] == pytest.approx(sum(accuracies) / 4, abs=1e-5)
        assert row["metrics"]["map_cells"] > 1
    table = group_table(finished_rows(read_runs([folder.path])), "validation_worst_group")
    assert table is not None and len(table.rows) == 1
    assert all(any(name in title for title in table.header) for name in GROUPS)


def test_a_choice_by_groups_without_any_is_refused(squares: RunConfig) -> None:
    evaluation = squares.evaluation.model_copy(update={"selections": ("validation_worst_group",)})
    with raises(ConfigError, "evaluation.selections", "benchmark.metadata"):
        assemble(squares.model_copy(update={"evaluation": evaluation}))
