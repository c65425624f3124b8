"""The lemmas on real runs, by the command: what is measured, with which masks, and what stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ranks import described, finish, start_ranks

from align_dist.cli import main
from align_dist.config import RunConfig, to_yaml
from align_dist.data.prepare import prepare
from align_dist.report.tables import THEORY_METRICS
from align_dist.runs.folder import RunFolder

OF_GAPS = ("mse_gap", "mse_bound", "lemma2_holds", "true_class_distance", "cross_entropy_gap")


@pytest.fixture(scope="module")
def trained(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two ranks, measured with the lemmas at its end."""
    path = tmp_path_factory.mktemp("trained")
    config = described(squares, path)
    command = ["-m", "align_dist.cli", "train", str(path / "run.yaml"), "evaluation.theory=true"]
    for code, output in finish(start_ranks(2, command)):
        assert code == 0, output
    return RunFolder(config.folder)


@pytest.fixture
def copied(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """The run, and beside it the description that it was trained by, in folders of this test's own."""
    folder = tmp_path / "runs" / "test" / trained.path.name
    shutil.copytree(trained.path, folder)
    config = trained.config().model_copy(update={"runs": tmp_path / "runs"})
    without = config.evaluation.model_copy(update={"theory": False})
    (tmp_path / "run.yaml").write_text(to_yaml(config.model_copy(update={"evaluation": without})))
    return RunFolder(folder)


@pytest.fixture(scope="module")
def without_masks(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as a benchmark that has no masks."""
    path = tmp_path_factory.mktemp("plain")
    benchmark = squares.benchmark.model_copy(update={"masks": None, "betons": path / "betons", "fingerprint": None})
    prepare(benchmark)
    (path / "run.yaml").write_text(to_yaml(squares.model_copy(update={"benchmark": benchmark, "runs": path / "runs"})))
    return path / "run.yaml"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lemmas_are_measured_over_ranks_as_in_one_process(copied: RunFolder) -> None:
    before = copied.results.read_text()
    for row in rows(copied.results):
        assert row["metrics"].keys() >= set(THEORY_METRICS)
        assert row["metrics"]["theory_images"] == 4
        assert row["theory_masks"].startswith("given ")
        assert all(row["metrics"][name] is not None for name in OF_GAPS)
    assert main(["evaluate", str(copied.path), "--theory"]) == 0
    assert copied.results.read_text() == before


def test_rows_gain_and_lose_nothing_but_the_lemmas(copied: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with_lemmas = rows(copied.results)
    added = {"theory_images", "clipped_share", *THEORY_METRICS}
    assert main(["evaluate", str(copied.path), "evaluation.theory=false"]) == 0
    for row, other in zip(rows(copied.results), with_lemmas, strict=True):
        del other["theory_masks"]
        other["metrics"] = {name: value for name, value in other["metrics"].items() if name not in added}
        assert row == other
    assert main(["report", str(copied.path)]) == 0
    assert "Lemma" not in capsys.readouterr().out


def test_training_again_with_other_settings_keeps_the_lemmas(
    copied: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = str(tmp_path / "run.yaml")
    before = copied.results.stat().st_mtime_ns
    assert main(["train", described]) == 0
    assert copied.results.stat().st_mtime_ns == before
    assert main(["train", described, "evaluation.faithfulness_images=3"]) == 0
    assert [row["metrics"]["theory_images"] for row in rows(copied.results)] == [3] * len(rows(copied.results))
    assert main(["report", str(tmp_path / "runs"), "--html", str(tmp_path / "report.html")]) == 0
    printed = capsys.readouterr().out
    assert "Lemma 1" in printed and "Lemmas 2 and 3" in printed and "masks given" in printed
    assert "Lemma 1" in (tmp_path / "report.html").read_text()


def test_without_true_masks_the_learned_ones_count_and_their_name_says_so(
    copied: RunFolder, without_masks: Path
) -> None:
    assert main(["evaluate", str(copied.path), "--theory", "--on", str(without_masks)]) == 0
    (path,) = copied.path.glob("results-folders-*.jsonl")
    results = rows(path)
    assert {row["theory_masks"] for row in results} == {"learned"}
    # No domain is a source there: each is compared with its own objects before other backgrounds.
    assert all("original_accuracy" in row["metrics"] for row in results)


def test_learned_masks_are_taken_where_they_are_asked_for(copied: RunFolder, tmp_path: Path) -> None:
    by_true_masks = [row["metrics"]["mixed_random_accuracy"] for row in rows(copied.results)]
    assert main(["evaluate", str(copied.path), "evaluation.theory=learned"]) == 0
    assert {row["theory_masks"] for row in rows(copied.results)} == {"learned"}
    measured = copied.results.read_text()
    assert main(["train", str(tmp_path / "run.yaml"), "evaluation.theory=learned"]) == 0
    assert copied.results.read_text() == measured, "done already"
    assert main(["train", str(tmp_path / "run.yaml"), "evaluation.theory=true"]) == 0
    assert [row["metrics"]["mixed_random_accuracy"] for row in rows(copied.results)] == by_true_masks


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (["method=erm"], "benchmark.masks"),
        (["evaluation.faithfulness_images=0"], "evaluation.faithfulness_images"),
        (["method=erm", "evaluation.theory=learned"], "evaluation.theory=true"),
    ],
)
def test_what_lemmas_need_is_said_before_training(
    without_masks: Path, overrides: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(without_masks), "evaluation.theory=true", *overrides]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("align-dist: evaluation.theory") and remedy in last
