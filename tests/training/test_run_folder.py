from __future__ import annotations

import json
from pathlib import Path

import pytest

from align_dist.config import RunConfig
from align_dist.data.tree import beton_of
from align_dist.errors import ConfigError
from align_dist.machine import describe_machine
from align_dist.run import carry_out
from align_dist.training.run_folder import RunFolder


def test_every_start_of_a_run_is_on_record(squares: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(squares)
    first = json.loads(folder.environment.read_text())
    folder.begin(squares)
    second = json.loads(folder.environment.read_text())
    assert [start["machine"] for start in second] == [describe_machine()] * 2
    assert second[:1] == first and {"torch", "ffcv"} <= set(first[0]["packages"])


@pytest.mark.parametrize("content", ["torn {", '{"python": "3.10"}', ""])
def test_a_record_that_cannot_be_read_stops_no_run(squares: RunConfig, tmp_path: Path, content: str) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(squares)
    folder.environment.write_text(content)
    folder.begin(squares)
    assert len(json.loads(folder.environment.read_text())) == 1


def test_a_folder_holds_one_run(squares: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(squares)
    with pytest.raises(ConfigError, match="holds another run"):
        folder.begin(squares.model_copy(update={"seed": squares.seed + 1}))
    assert folder.config() == squares


def test_a_run_that_was_finished_on_other_pictures_is_not_done_already(squares: RunConfig, tmp_path: Path) -> None:
    config = squares.model_copy(update={"runs": tmp_path})
    folder = RunFolder(config.folder)
    folder.begin(config, 1, beton_of(config.benchmark).pictures)
    folder.write_results([])
    said: list[str] = []
    carry_out(config, said.append)
    assert said == [f"{config.folder}: done already"]
    folder.environment.write_text(json.dumps([{"pictures": "0" * 16}]))
    with pytest.raises(ConfigError, match="holds a run on other pictures"):
        carry_out(config, said.append)


def test_a_run_that_is_all_warm_up_says_that_nothing_guided_it(squares: RunConfig, tmp_path: Path) -> None:
    changed = {"length": "2 steps", "warmup": "2 steps"}
    training = squares.training.model_copy(update=changed)
    said: list[str] = []
    carry_out(squares.model_copy(update={"runs": tmp_path, "training": training}), said.append)
    assert any("no mask ever guided" in line for line in said)
