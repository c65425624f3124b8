"""What a run is measured with, and what is said of it."""

from __future__ import annotations

from pathlib import Path

from align_dist.assembly import assemble
from align_dist.config import RunConfig
from align_dist.evaluation.evaluate import evaluate_run
from align_dist.parallel.group import Group
from align_dist.runs.folder import RunFolder
from align_dist.runs.selection import weights_now, write_selected


def test_every_selection_has_rows_and_a_line(squares: RunConfig, tmp_path: Path) -> None:
    selections = ("validation", "last", "oracle")
    evaluation = squares.evaluation.model_copy(update={"selections": selections, "faithfulness_images": 0})
    run = assemble(squares.model_copy(update={"evaluation": evaluation}))
    folder, said = RunFolder(tmp_path / "run"), list[str]()
    now = weights_now(20, run.method.networks, Group())
    write_selected(folder.selected, {"validation": now, "last": now})
    rows, _ = evaluate_run(run, folder, said.append)
    assert [(row.selection, row.domain) for row in rows] == [
        (selection, domain) for selection in ("validation", "last") for domain in ("bright", "dark")
    ]
    assert rows[0].metrics == rows[2].metrics
    assert "accuracy" in said[0] and "accuracy" in said[1]
    assert said[2:] == [
        "run: last: the same weights as validation (step 20)",
        "run: oracle: left out, the run was trained without it",
    ]
