"""A paper's tables from folders of runs: values worked by hand, published numbers as they were printed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from refusals import raises

from align_dist.cli import main
from align_dist.errors import DataError
from align_dist.report.papers import left_out, paper_tables
from align_dist.report.published import read_paper
from align_dist.report.render import Table
from align_dist.report.rows import finished_rows, read_runs

MEASURED = Path(__file__).parents[2] / "configs" / "results"
Metrics = Mapping[str, float]


def write_run(
    place: Path, kind: str, home: str, method: str, seed: int, results: Mapping[str, Metrics], **changes: Any
) -> None:
    """A finished run by what it was tested on. home: the domain trained on, or held out."""
    held_out = kind == "leave_one_out"
    record = {
        "benchmark": "vlcs", "method": method, "variant": "", "backbone": "resnet50", "protocol": kind, "step": 10,
        "source": None if held_out else home, "target": home if held_out else None, "seed": seed, "images": 5,
        "selection": "validation", "experiment": "study",
    } | changes  # fmt: skip
    name = f"{record['benchmark']}-{kind}-{home}-{method}-{record['variant']}-{record['backbone']}-{seed}"
    (place / name).mkdir(parents=True)
    lines = []
    for domain, metrics in results.items():
        role = "in_domain" if (domain == home) != held_out else "out_of_domain"
        lines.append(json.dumps({**record, "run": name, "domain": domain, "role": role, "metrics": metrics}))
    (place / name / "results.jsonl").write_text("\n".join(lines))
    (place / name / "done").touch()


def tables_of(place: Path, paper: str, selection: str = "validation") -> list[Table]:
    return paper_tables(finished_rows(read_runs([place])), read_paper(paper), selection)


def cells(table: Table, *names: str) -> dict[str, str]:
    """The one row that begins with these names, by column."""
    (row,) = [row for row in table.rows if row[: len(names)] == names]
    return dict(zip(table.header, row, strict=True))


def test_in_distribution_is_a_row_of_ours_above_one_of_published_numbers(tmp_path: Path) -> None:
    """Accuracies .84 .86 .88: mean 86, s.e. .02 / sqrt 3 = 1.15; insertion AUC .70 and .80: 75, s.e. 5."""
    for seed, accuracy in enumerate((0.84, 0.86, 0.88)):
        insertion = {"insertion_auc": 0.7 + seed / 10} if seed < 2 else {}
        write_run(tmp_path, "in_domain", "VOC2007", "align", seed, {"VOC2007": {"accuracy": accuracy, **insertion}})
    write_run(tmp_path, "in_domain", "SUN09", "align", 0, {"SUN09": {"accuracy": 0.5, "insertion_auc": 0.1}})
    table, _ = tables_of(tmp_path, "paper")
    assert [title.split()[0] for title in table.header[3:]] == ["VOC2007", "VOC2007", "LabelMe", "Caltech101", "SUN09"]
    assert table.rows[-2:] == (
        ("ALIGN", "ours", "3", "86.00 ± 1.15", "75.00 ± 5.00 (n=2)", "–", "–", "50.00 (n=1)"),
        ("ALIGN", "published", "–", "86.91", "82.18", "80.23", "99.98", "82.54"),
    )
    assert table.rows[:2] == (
        ("ERM", "ours", "0", "–", "–", "–", "–", "–"),
        ("ERM", "published", "–", "85.35", "76.95", "80.80", "99.73", "80.87"),
    )
    assert any("2511.06944" in note for note in table.notes)


def test_the_ablation_has_the_papers_rows_and_no_others(tmp_path: Path) -> None:
    for method, variant, accuracy in (
        ("dre", "", 0.1), ("fixed_mask", "grey", 0.2), ("fixed_mask", "constant", 0.3), ("erm", "", 0.4)
    ):  # fmt: skip
        write_run(tmp_path, "in_domain", "VOC2007", method, 0, {"VOC2007": {"accuracy": accuracy}}, variant=variant)
    whole, ablation = tables_of(tmp_path, "paper")
    assert [row[:2] for row in ablation.rows] == [
        (name, numbers) for name in ("w/o EG", "m-SAM", "m-Gray", "ALIGN") for numbers in ("ours", "published")
    ]
    assert [row[3:] for row in ablation.rows[:6]] == [
        ("10.00", "–"), ("85.61", "77.41"), ("–", "–"), ("85.51", "80.32"), ("20.00", "–"), ("86.90", "79.15")
    ]  # fmt: skip
    assert any("m-Gray" in note and "fixed_mask (grey)" in note for note in ablation.notes)
    assert cells(whole, "fixed_mask (constant)")["VOC2007 accuracy % ↑"] == "30.00"


def test_what_was_trained_on_one_domain_is_in_distribution_and_out_of_domain(tmp_path: Path) -> None:
    """The average over a and b takes the seed that has both: (.2 + .4) / 2."""
    first: dict[str, Metrics] = {"a": {"accuracy": 0.2}, "b": {"accuracy": 0.4}, "c": {"accuracy": 0.9}}
    second: dict[str, Metrics] = {"a": {"accuracy": 0.6}, "c": {"accuracy": 0.7}}
    for seed, results in enumerate((first, second)):
        write_run(tmp_path, "single_source", "c", "erm", seed, results, benchmark="toy")
    inside, outside = tables_of(tmp_path, "paper")
    assert cells(inside, "ERM")["c accuracy % ↑"] == "80.00 ± 10.00"
    assert "trained on c" in outside.title
    erm = cells(outside, "ERM")
    assert [erm[f"{place} accuracy % ↑"] for place in ("a", "b", "average")] == [
        "40.00 ± 20.00", "40.00 (n=1)", "30.00 (n=1)"
    ]  # fmt: skip
    assert not any("published" in row for row in outside.rows)


def test_DRE_has_a_block_a_metric_and_benchmarks_side_by_side(tmp_path: Path) -> None:
    vlcs = dict.fromkeys(("Caltech101", "LabelMe", "SUN09", "VOC2007"))
    for number, domain in enumerate(vlcs):
        results = {domain: {"accuracy": 0.2 + number / 10, "insertion_auc": 0.5}, "elsewhere": {"accuracy": 0.99}}
        write_run(tmp_path, "leave_one_out", domain, "erm", 0, results)
    here = {"benchmark": "terra_incognita"}
    write_run(tmp_path, "leave_one_out", "location_38", "erm", 0, {"location_38": {"accuracy": 0.42}}, **here)
    (table,) = tables_of(tmp_path, "dre")
    assert table.header[4:] == (
        "location_100", "location_38", "location_43", "location_46", "average of terra_incognita",
        *vlcs, "average of vlcs",
    )  # fmt: skip
    ours, published = (row for row in table.rows if row[:2] == ("accuracy % ↑", "ERM"))
    # Of Terra Incognita one of four domains is there: no average beside the paper's.
    assert ours[2:] == ("ours", "1", "–", "42.0", "–", "–", "–", "20.0", "30.0", "40.0", "50.0", "35.0")
    assert published[2:] == (
        "published", "–", "49.8", "42.1", "56.9", "35.7", "46.1", "97.7", "64.3", "73.4", "74.6", "77.5"
    )  # fmt: skip
    assert cells(table, "insertion AUC ↑", "ERM", "ours")["average of vlcs"] == "0.500"
    unmeasured = [row for row in table.rows if row[0].startswith("DEC loss")]
    assert all("not measured" in row[0] for row in unmeasured)
    assert [row[4:] for row in unmeasured if row[2] == "ours"] == [("–",) * 10] * 6
    assert unmeasured[-1][1:5] == ("DRE", "published", "–", "0.195")


def test_rows_that_the_product_wrote_fill_the_shape_of_a_benchmark_that_the_paper_does_not_have(tmp_path: Path) -> None:
    shutil.copy(MEASURED / "pacs_leave_one_out.jsonl", tmp_path / "results.jsonl")
    (tmp_path / "done").touch()
    (table,) = tables_of(tmp_path, "dre")
    assert table.header == ("metric", "method", "numbers", "seeds", "sketch", "average")
    assert cells(table, "accuracy % ↑", "ERM")["sketch"] == "29.1" and cells(table, "accuracy % ↑", "align")
    assert not any("published" in row for row in table.rows)


def test_what_differs_between_runs_is_a_column_and_never_averaged(tmp_path: Path) -> None:
    for backbone, accuracy in (("resnet18", 0.5), ("resnet50", 0.7)):
        results = {"VOC2007": {"accuracy": accuracy}}
        write_run(tmp_path, "in_domain", "VOC2007", "erm", 0, results, backbone=backbone)
    table, *_ = tables_of(tmp_path, "paper")
    assert table.header[:4] == ("method", "backbone", "numbers", "seeds")
    assert [row[:5] for row in table.rows[:3]] == [
        ("ERM", "resnet18", "ours", "1", "50.00"), ("ERM", "resnet50", "ours", "1", "70.00"),
        ("ERM", "–", "published", "–", "85.35"),
    ]  # fmt: skip


def test_two_runs_that_claim_one_place_are_not_averaged(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_run(tmp_path / name, "in_domain", "VOC2007", "erm", 0, {"VOC2007": {"accuracy": 0.5}})
    (path,) = (tmp_path / "second").glob("*/results.jsonl")
    path.write_text(path.read_text().replace('"run": "vlcs', '"run": "other'))
    with raises(DataError, "vlcs", "other"):
        tables_of(tmp_path, "paper")


def test_runs_without_a_place_are_a_line_an_experiment_with_the_reason(tmp_path: Path) -> None:
    results: dict[str, Metrics] = {"VOC2007": {"accuracy": 0.5}}
    write_run(tmp_path, "in_domain", "VOC2007", "erm", 0, results)
    for seed in (0, 1):
        write_run(tmp_path, "leave_one_out", "VOC2007", "erm", seed, results, experiment="held")
    write_run(tmp_path, "in_domain", "PASCAL", "erm", 0, {"PASCAL": {"accuracy": 0.5}}, experiment="elsewhere")
    write_run(tmp_path, "in_domain", "SUN09", "erm", 0, results, experiment="late", selection="last")
    lines = left_out(read_runs([tmp_path]), read_paper("paper"), "validation")
    expected = {"elsewhere": ("1 ", "PASCAL"), "held": ("2 ", "leave_one_out"), "late": ("1 ", "validation")}
    assert len(lines) == len(expected)
    for experiment, words in expected.items():
        assert any(experiment in line and all(word in line for word in words) for line in lines)


def test_the_command_prints_every_form_and_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results: dict[str, Metrics] = {"VOC2007": {"accuracy": 0.5}}
    write_run(tmp_path, "in_domain", "VOC2007", "align", 0, results)
    write_run(tmp_path, "leave_one_out", "VOC2007", "erm", 0, results, experiment="held")
    shown = {}
    for form in ("text", "markdown", "latex", "csv"):
        assert main(["report", str(tmp_path), "--table", "paper", "--format", form]) == 0
        shown[form], errors = capsys.readouterr()
        assert "held" in errors and "leave_one_out" in errors
    assert "86.91" in shown["text"] and "| ALIGN | published |" in shown["markdown"]
    first, second = shown["csv"].split("# ")[1:]
    read = list(csv.DictReader(io.StringIO(second.partition("\n")[2])))
    assert [(row["method"], row["numbers"]) for row in read[:2]] == [("w/o EG", "ours"), ("w/o EG", "published")]
    assert "SUN09" in first
    for tabular in shown["latex"].split(r"\begin{tabular}{")[1:]:
        form, _, body = tabular.partition("}\n")
        lines = body.partition(r"\end{tabular}")[0].splitlines()
        rows = [line for line in lines if line.endswith(r" \\")]
        assert len(rows) > 4 and {row.count(" & ") + 1 for row in rows} == {len(form)}
        assert r"\%" in rows[0] and r"$\uparrow$" in rows[0]
    assert shown["latex"].count(r"\begin{table}") == shown["latex"].count(r"\end{table}") == 2


@pytest.mark.parametrize(
    "arguments", [["--table", "dre"], ["--table", "align"], ["--table", "paper", "--html", "page.html"]]
)
def test_a_table_that_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    write_run(tmp_path, "in_domain", "VOC2007", "align", 0, {"VOC2007": {"accuracy": 0.5}})
    assert main(["report", str(tmp_path), *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1
