"""Domains × methods × seeds, and the kinds of a study × seeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from refusals import raises

from align_dist.cluster.grid import cells_of, parse_seeds, study_cells
from align_dist.config import RunConfig, to_yaml
from align_dist.errors import ConfigError, DataError


@pytest.fixture
def description(squares: RunConfig, tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(squares))
    return path


def test_every_cell_is_a_run_of_its_own(description: Path) -> None:
    cells = cells_of(description, ["training.length=19 steps"], ["all"], ["erm", "align"], [0, 5])
    assert [(cell.domain, cell.label, cell.config.seed) for cell in cells] == [
        (d, m, s) for d in ("bright", "dark") for m in ("erm", "align") for s in (0, 5)
    ]
    assert len({cell.config.folder for cell in cells}) == 8
    assert all(cell.config.protocol.source == cell.domain for cell in cells)
    assert all(cell.config.training.length == "19 steps" for cell in cells)


def test_leave_one_out_holds_the_domain_out(description: Path) -> None:
    (cell,) = cells_of(description, ["protocol.kind=leave_one_out"], ["dark"], ["erm"], [0])
    assert (cell.config.protocol.source, cell.config.protocol.target) == (None, "dark")


@pytest.mark.parametrize(
    ("overrides", "domains", "methods", "seeds", "named"),
    [
        ([], ["night"], ["erm"], [0], "bright, dark"),
        ([], ["dark"], ["alig"], [0], "'align'"),
        ([], ["dark", "dark"], ["erm"], [0], "--domains"),
        ([], ["dark"], ["erm"], [], "--seeds"),
        (["seed=3"], ["dark"], ["erm"], [0], "--seeds"),
        (["protocol.source=dark"], ["dark"], ["erm"], [0], "--domains"),
        (["align.lambda9=1"], ["dark"], ["erm"], [0], "lambda9"),
        ([], ["dark"], ["erm", "irm"], [0], "irm"),
        (["evaluation.selections=[validation_worst_group]"], ["dark"], ["erm"], [0], "evaluation.selections"),
        (["sgt.weight=1", "align.sparsity_ramp=900 epochs"], ["dark"], ["erm", "align"], [0], "align.sparsity_ramp"),
    ],
)
def test_what_cannot_be_is_one_line(
    description: Path, overrides: list[str], domains: list[str], methods: list[str], seeds: list[int], named: str
) -> None:
    with raises(ConfigError, named):
        cells_of(description, overrides, domains, methods, seeds)


def test_a_beton_of_something_else_is_refused_before_anything_is_submitted(
    squares: RunConfig, description: Path, tmp_path: Path
) -> None:
    root = tmp_path / "grown"
    shutil.copytree(squares.benchmark.root, root)
    shutil.copytree(root / "dark", root / "dusk")
    with raises(DataError, 48, "dusk/"):
        cells_of(description, [f"benchmark.root={root}", "benchmark.masks=null"], ["all"], ["erm"], [0])


def write_study(path: Path, description: Path, *lines: str) -> Path:
    path.write_text("\n".join((f"config {description}", "# what they share", "common experiment=studied", "", *lines)))
    return path


def test_a_cell_of_a_study_is_a_kind_with_a_seed(description: Path, tmp_path: Path) -> None:
    kinds = (
        "method=erm",
        "method=align align.lambda3=0.5 variant=weak",
        "method=erm protocol.source=dark experiment=own",
    )
    study = write_study(tmp_path / "study.txt", description, *kinds)
    cells = study_cells(study, ["training.length=19 steps"], [3, 1], share_warmup=True)
    assert [(cell.label, cell.config.seed) for cell in cells] == [
        ("erm", 3), ("erm", 1), ("align (weak)", 3), ("align (weak)", 1), ("erm", 3), ("erm", 1)
    ]  # fmt: skip
    assert [cell.config.experiment for cell in cells[::2]] == ["studied", "studied", "own"]
    assert [cell.domain for cell in cells[::2]] == ["bright", "bright", "dark"]
    assert all(cell.share_warmup and cell.config.training.length == "19 steps" for cell in cells)
    (plain,) = cells_of(description, ["training.length=19 steps", "experiment=own"], ["dark"], ["erm"], [1])
    assert plain.config.folder == cells[-1].config.folder, "the same run, however it is asked for"


@pytest.mark.parametrize(
    ("lines", "overrides", "seeds", "named"),
    [
        (["method=erm"], ["seed=1"], [0], "--seeds"),
        (["method=erm"], [], [], "study.txt"),
        (["method=erm", "method=erm"], [], [0], "study.txt"),
        ([], [], [0], "study.txt"),
        (["method=erm", "config b.yaml"], [], [0], "study.txt"),
        (["method=emr"], [], [0], "'erm'"),
        (["method=erm", "method=irm"], [], [0], "irm"),
    ],
)
def test_a_study_that_cannot_be_is_one_line(
    description: Path, tmp_path: Path, lines: list[str], overrides: list[str], seeds: list[int], named: str
) -> None:
    study = write_study(tmp_path / "study.txt", description, *lines)
    with raises(ConfigError, named):
        study_cells(study, overrides, seeds)


def test_seeds() -> None:
    assert parse_seeds("0:3") == [0, 1, 2] and parse_seeds("4,0") == [4, 0] and parse_seeds("7") == [7]
    for wrong in ("", "a", "3:1", "2:2", "1:2:3", "1,", "-1", "0,-1", "-1:3", str(2**63), f"1,{2**64}"):
        with raises(ConfigError, "--seeds"):
            parse_seeds(wrong)
