from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from refusals import raises

from align_dist.config import BenchmarkConfig, RunConfig
from align_dist.errors import DataError
from align_dist.runs.results import (
    IN_DOMAIN,
    Row,
    benchmark_settings_of,
    group_of,
    read_rows,
    settings_of,
    variant_of,
    write_rows,
)


def record(**changes: Any) -> dict[str, Any]:
    return {
        "run": "a1", "experiment": "quickstart", "benchmark": "embedded", "method": "align", "variant": "",
        "backbone": "resnet8", "protocol": "single_source", "source": "biased", "target": None, "seed": 0,
        "selection": "validation", "step": 1200, "domain": "shuffled", "role": "out_of_domain", "images": 597,
        "metrics": {"accuracy": 0.81},
    } | changes  # fmt: skip


def write_run(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return folder


def test_a_row_keeps_what_the_line_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", record(variant="constant 0.14", source=["a", "b"]))
    (row,) = read_rows(folder / "results.jsonl")
    assert row.group == ("embedded", "resnet8", "single_source", "a, b", "", "", "")
    assert (row.label, row.seed, row.domain, row.role) == (
        "align (constant 0.14)", 0, "shuffled", "out_of_domain"
    )  # fmt: skip
    assert row.metrics == {"accuracy": 0.81}


@pytest.mark.parametrize(
    ("variant", "classifier", "expected"),
    [
        ("", {}, ""),
        ("", {"attribution": "input_gradient"}, "input_gradient"),
        ("input_gradient", {"attribution": "input_gradient"}, "input_gradient"),
        ("wide", {"cam_places": "even"}, "wide, even cells"),
        ("", {"attribution": "input_gradient", "cam_places": "even"}, "input_gradient"),
    ],
)
def test_a_variant_says_when_maps_are_made_otherwise(
    squares: RunConfig, variant: str, classifier: dict[str, str], expected: str
) -> None:
    changes = {"variant": variant, "classifier": squares.classifier.model_copy(update=classifier)}
    assert variant_of(squares.model_copy(update=changes)) == expected


def test_what_a_run_was_measured_as_comes_back_from_its_file(squares: RunConfig, tmp_path: Path) -> None:
    evaluation = squares.evaluation.model_copy(update={"fill": "blur"})
    row = Row(
        "a1", "quickstart", group_of(squares.model_copy(update={"evaluation": evaluation})), "align", "", 0, "last",
        24, "bright", IN_DOMAIN, 12, {"accuracy": 0.75}, "0" * 16, settings_of(evaluation), theory_masks="given 1234",
    )  # fmt: skip
    unmeasured = replace(row, metrics={"accuracy": 0.75, "mask_iou": math.nan, "cross_entropy": math.inf})
    write_rows(tmp_path / "results.jsonl", [row, unmeasured])
    assert read_rows(tmp_path / "results.jsonl") == [row, row]
    assert row.group == ("folders", "resnet8", "single_source", "bright", "", "faithfulness_images=4 fill=blur", "")


def test_pictures_of_another_agreement_are_another_comparison(squares: RunConfig, tmp_path: Path) -> None:
    embedded = BenchmarkConfig(name="embedded", agreement=0.9)
    row = Row(
        "a1", "", group_of(squares.model_copy(update={"benchmark": embedded})), "erm", "", 0, "last", 1, "biased",
        IN_DOMAIN, 1, {}, "", settings_of(squares.evaluation), benchmark_settings_of(embedded),
    )  # fmt: skip
    write_rows(tmp_path / "results.jsonl", [row])
    assert read_rows(tmp_path / "results.jsonl") == [row]
    usual = group_of(squares.model_copy(update={"benchmark": BenchmarkConfig(name="embedded")}))
    assert row.group.data == "agreement=0.9" and row.group._replace(data="") == usual
    assert benchmark_settings_of(squares.benchmark) == {}, "what its pictures show is in its folders"


def test_metrics_are_kept_to_six_decimals_and_small_ones_to_six_digits(squares: RunConfig, tmp_path: Path) -> None:
    metrics = {"accuracy": 2 / 3, "lipschitz": 1.23456789e-5}
    row = Row("a", "", group_of(squares), "erm", "", 0, "last", 1, "bright", IN_DOMAIN, 1, metrics)
    write_rows(tmp_path / "results.jsonl", [row])
    (copy,) = read_rows(tmp_path / "results.jsonl")
    assert copy.metrics == {"accuracy": 0.666667, "lipschitz": 1.23457e-5}


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
        read_rows(folder / "results.jsonl")
    message = str(caught.value)
    assert f"{folder / 'results.jsonl'} line 2: " in message
    assert reason in message and "\n" not in message


def test_bytes_that_are_no_text_are_a_bad_line_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "results.jsonl").write_bytes(b"\xff\xfe\x00\n")
    with raises(DataError, folder / "results.jsonl", "line 1"):
        read_rows(folder / "results.jsonl")


def test_results_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").mkdir()
    with raises(DataError, tmp_path / "results.jsonl"):
        read_rows(tmp_path / "results.jsonl")
