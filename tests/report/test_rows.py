"""Which runs a report takes rows of."""

from __future__ import annotations

from pathlib import Path

from align_dist.config import RunConfig
from align_dist.report.rows import finished_rows, read_runs, unfinished
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import OUT_OF_DOMAIN, Row, group_of, write_rows


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
