"""A beton belongs to the tree it was made of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from align_dist.config import BenchmarkConfig, parse_config
from align_dist.data.prepare import prepare
from align_dist.data.tree import beton_of
from align_dist.errors import ConfigError, DataError
from align_dist.training.run_folder import RunFolder

TREE = {"paint": {"cat": 3, "dog": 4}, "photo": {"cat": 5, "dog": 2}}


@pytest.fixture
def benchmark(tmp_path: Path, pictures: Any) -> BenchmarkConfig:
    described = BenchmarkConfig(name="folders", root=pictures(tmp_path / "one", TREE), betons=tmp_path / "betons")
    prepare(described)
    return described


def test_another_tree_is_refused_where_the_names_are_the_same(
    benchmark: BenchmarkConfig, tmp_path: Path, pictures: Any
) -> None:
    before = beton_of(benchmark)
    copied = benchmark.model_copy(update={"root": shutil.copytree(benchmark.root, tmp_path / "copy")})
    assert beton_of(copied) == before
    other = benchmark.model_copy(update={"root": pictures(tmp_path / "two", TREE, side=48)})
    for use in (beton_of, prepare):
        with pytest.raises(DataError, match=r"other pictures than those under .*two.*benchmark\.betons=FOLDER"):
            use(other)
    assert beton_of(benchmark) == before
    prepare(other, force=True)
    assert beton_of(other).paths == before.paths and beton_of(other).pictures != before.pictures


def test_a_beton_is_used_without_its_pictures(benchmark: BenchmarkConfig, tmp_path: Path) -> None:
    before = beton_of(benchmark)
    shutil.rmtree(benchmark.root)
    assert beton_of(benchmark) == before
    benchmark.root.mkdir()
    assert beton_of(benchmark) == before


def test_a_folder_within_the_root_is_found(benchmark: BenchmarkConfig, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    benchmark.root.rename(tmp_path / "above" / "PACS")
    assert len(beton_of(benchmark.model_copy(update={"root": tmp_path / "above"}))) == 14


def test_a_run_on_other_pictures_is_not_taken_for_this_one(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path / "run"), parse_config({})
    folder.begin(config, 1, "a" * 16)
    folder.begin(config, 1, "a" * 16)
    with pytest.raises(ConfigError, match="a run on other pictures; choose another experiment=NAME"):
        folder.begin(config, 1, "b" * 16)
