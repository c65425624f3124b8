from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from align_dist.errors import DataError
from align_dist.report.rows import find_run_folders, finished_rows, read_rows, read_runs, unfinished


def record(**changes: Any) -> dict[str, Any]:
    return {
        "run": "a1", "experiment": "quickstart", "benchmark": "embedded", "method": "align", "variant": "",
        "backbone": "resnet8", "protocol": "single_source", "source": "biased", "target": None, "seed": 0,
        "selection": "validation", "step": 1200, "domain": "shuffled", "role": "out_of_domain", "images": 597,
        "metrics": {"accuracy": 0.81},
    } | changes  # fmt: skip


def write_run(folder: Path, *records: dict[str, Any], done: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    if done:
        (folder / "done").touch()
    return folder


def test_a_row_keeps_what_the_line_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", record(variant="constant 0.14", source=["a", "b"]))
    (row,) = read_rows(folder / "results.jsonl")
    assert row.group == ("embedded", "resnet8", "single_source", "a, b", "", "")
    assert (row.label, row.seed, row.domain, row.role) == (
        "align (constant 0.14)", 0, "shuffled", "out_of_domain"
    )  # fmt: skip
    assert row.metrics == {"accuracy": 0.81}


def test_values_that_are_not_finite_count_as_not_measured(tmp_path: Path) -> None:
    metrics = {"accuracy": 1, "roc_auc": math.nan, "mask_iou": None, "cross_entropy": math.inf}
    (row,) = read_rows(write_run(tmp_path / "run", record(metrics=metrics)) / "results.jsonl")
    assert row.metrics == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"run": "a1", ', "not JSON"),
        ("[1, 2]", "not an object"),
        (json.dumps({k: v for k, v in record().items() if k != "domain"}), "'domain' is missing"),
        (json.dumps(record(seed="0")), "'seed' is missing or not a whole number"),
        (json.dumps(record(seed=True)), "'seed' is missing or not a whole number"),
        (json.dumps(record(role="source")), "'role' is 'source'"),
        (json.dumps(record(source=3)), "'source' is neither"),
        (json.dumps(record(metrics=None)), "'metrics' is missing"),
        (json.dumps(record(metrics={"accuracy": "high"})), "metric 'accuracy' is not a number"),
    ],
)
def test_a_bad_line_is_named_in_one_line(tmp_path: Path, line: str, reason: str) -> None:
    folder = write_run(tmp_path / "run", record())
    with (folder / "results.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError) as caught:
        read_runs([tmp_path])
    message = str(caught.value)
    assert f"{folder.resolve() / 'results.jsonl'} line 2: " in message
    assert reason in message and "\n" not in message


def test_bytes_that_are_no_text_are_a_bad_line_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "results.jsonl").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(DataError, match="line 1: not JSON"):
        read_rows(folder / "results.jsonl")


def test_runs_are_found_below_parents_and_each_once(tmp_path: Path) -> None:
    first = write_run(tmp_path / "x" / "one", record())
    second = write_run(tmp_path / "x" / "y" / "two", record(seed=1))
    assert find_run_folders([first, tmp_path, tmp_path / "x"]) == sorted([first.resolve(), second.resolve()])


def test_unfinished_runs_give_no_rows_but_are_known(tmp_path: Path) -> None:
    write_run(tmp_path / "ended", record())
    write_run(tmp_path / "evaluated", record(seed=1), done=False)
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "config.yaml").write_text("seed: 2\n")
    runs = read_runs([tmp_path])
    assert [row.seed for row in finished_rows(runs)] == [0]
    assert [(run.folder.name, run.label) for run in unfinished(runs)] == [
        ("evaluated", "align"),
        ("training", "training"),
    ]


def test_a_place_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no results\.jsonl"):
        find_run_folders([tmp_path])
    with pytest.raises(DataError, match="nowhere"):
        find_run_folders([tmp_path / "nowhere"])


def test_results_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").mkdir()
    with pytest.raises(DataError, match=r"results\.jsonl: cannot be read"):
        read_runs([tmp_path])
