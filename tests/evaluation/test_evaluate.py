"""What a run is measured with, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusals import raises

from align_dist.assembly import assemble
from align_dist.config import RunConfig
from align_dist.errors import CheckpointError
from align_dist.evaluation.evaluate import evaluate_run
from align_dist.parallel.group import Group
from align_dist.runs.folder import RunFolder
from align_dist.runs.selection import weights_now, write_selected


def test_every_selection_has_rows_and_a_line(squares: RunConfig, tmp_path: Path) -> None:
    selections = ("validation", "last", "oracle")
    evaluation = squares.evaluation.model_copy(update={"selections": selections, "faithfulness_images": 0})
    run = assemble(squares.model_copy(update={"evaluation": evaluation}))
    folder, messages = RunFolder(tmp_path / "run"), list[str]()
    now = weights_now(20, run.method.networks, Group())
    write_selected(folder.selected, {"validation": now, "last": now})
    rows, _ = evaluate_run(run, folder, messages.append)
    assert [(row.selection, row.domain) for row in rows] == [
        (selection, domain) for selection in ("validation", "last") for domain in ("bright", "dark")
    ]
    assert rows[0].metrics == rows[2].metrics
    assert "accuracy" in messages[0] and "accuracy" in messages[1]
    assert messages[2:] == [
        "run: last: the same weights as validation (step 20)",
        "run: oracle: left out, the run was trained without it",
    ]


@pytest.mark.parametrize("network", ["classifier", "masker"])
def test_weights_of_another_network_are_refused_by_its_name(squares: RunConfig, tmp_path: Path, network: str) -> None:
    run, folder = assemble(squares), RunFolder(tmp_path / "run")
    weights = weights_now(20, run.method.networks, Group())
    name, tensor = next((n, t) for n, t in weights["networks"][network].items() if t.ndim > 1)
    weights["networks"][network][name] = tensor[:-1]
    write_selected(folder.selected, {"validation": weights})
    with raises(CheckpointError, folder.selected, network):
        evaluate_run(run, folder, lambda _: None)
