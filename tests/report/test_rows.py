"""Which runs a report takes rows of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from refusals import raises

from align_dist.config import RunConfig
from align_dist.errors import CheckpointError
from align_dist.report.rows import finished_rows, read_runs, unfinished
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import IN_DOMAIN, OUT_OF_DOMAIN, Row, group_of, write_rows


def begin(config: RunConfig, seed: int, runs: Path) -> tuple[RunFolder, Row]:
    """The folder of a run that has begun, and a row of its results."""
    run = config.model_copy(update={"seed": seed, "runs": runs})
    folder = RunFolder(run.folder)
    folder.begin(run)
    return folder, Row(folder.path.name, "", group_of(run), "align", "", seed, "last", 24, "dark", OUT_OF_DOMAIN, 9, {})


def test_unfinished_runs_give_no_rows_but_are_known(squares: RunConfig, tmp_path: Path) -> None:
    (finished, first), (evaluated, second), (bare, _) = (begin(squares, seed, tmp_path) for seed in range(3))
    finished.write_results([first])
    write_rows(evaluated.results, [second])  # dead before the mark
    runs = read_runs([tmp_path])
    assert [row.seed for row in finished_rows(runs)] == [0]
    assert {(run.folder.name, run.label) for run in unfinished(runs)} == {
        (evaluated.path.name, "align"),
        (bare.path.name, bare.path.name),
    }


def test_a_file_of_rows_has_the_runs_that_the_rows_came_from(squares: RunConfig, tmp_path: Path) -> None:
    """Such as configs/results/methods.jsonl: rows that outlive their runs' folders."""
    folders = [begin(squares, seed, tmp_path / "runs") for seed in range(2)]
    for folder, row in folders:
        folder.write_results([row, replace(row, domain="bright", role=IN_DOMAIN)])
    collected = tmp_path / "collected.jsonl"
    collected.write_text("".join(folder.results.read_text() for folder, _ in folders))
    by_folder, by_file = (
        sorted(read_runs([place]), key=lambda run: run.folder.name) for place in (tmp_path, collected)
    )
    assert [run.rows for run in by_file] == [run.rows for run in by_folder]
    assert [run.folder.name for run in by_file] == [run.folder.name for run in by_folder]
    assert all(run.finished and run.settings == {} and run.records == [] for run in by_file)
    assert len(read_runs([tmp_path / "runs", collected])) == 4
    with raises(CheckpointError, "missing.jsonl"):
        read_runs([tmp_path / "missing.jsonl"])
