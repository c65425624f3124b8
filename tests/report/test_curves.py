from __future__ import annotations

import json
from pathlib import Path

import pytest

from align_dist.config import RunConfig
from align_dist.report.curves import health_plot, loss_plot, read_curves, term_tags, thinned
from align_dist.report.measures import measure
from align_dist.report.rows import Run, read_run
from align_dist.run import train_run
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import write_metrics


@pytest.fixture(scope="module")
def align(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was really trained and measured."""
    evaluation = squares.evaluation.model_copy(update={"soft": True})
    runs = {"runs": tmp_path_factory.mktemp("runs"), "evaluation": evaluation}
    return train_run(squares.model_copy(update=runs), say=lambda _: None)


def write_scalars(folder: Path, count: int = 50) -> Run:
    folder.mkdir(exist_ok=True)
    for step in range(count):
        write_metrics(RunFolder(folder).metrics, step, step / 4, {"classifier/loss": 1 / (step + 1), "mask/area": 0.3})
    return read_run(folder)


def test_a_real_run_shows_its_health_and_every_term_raw_and_weighted(align: RunFolder) -> None:
    curves = read_curves(read_run(align.path))
    assert curves.warmup == 10
    terms = term_tags(curves.scalars)
    assert {"classifier/classification", "classifier/guidance", "masker/sparsity", "masker/loss"} <= {*terms}
    raw, weighted = curves.scalars["masker/sparsity"], curves.scalars["masker/weighted/sparsity"]
    assert weighted == {step: pytest.approx(1.0 * value) for step, value in raw.items()}
    health = health_plot([curves])
    assert all(tag in health for tag in ("validation/accuracy", "mask/area", "mask/binariness"))
    assert all(f">{tag}<" in loss_plot([curves]) for tag in terms)


def test_every_measure_of_a_real_run_is_explained(align: RunFolder) -> None:
    rows = [json.loads(line) for line in align.results.read_text().splitlines()]
    names = {name for row in rows for name in row["metrics"] if not name.startswith("accuracy_of/")}
    assert "mask_binariness" in names
    assert {name for name in names if not measure(name).meaning} == set()


def test_thinning_keeps_short_series_and_the_mean_of_long_ones() -> None:
    assert thinned({1: 2.0, 5: 4.0}, 100) == ([1.0, 5.0], [2.0, 4.0])
    steps, values = thinned({s: float(s) for s in range(1000)}, 100)
    assert len(steps) == 100
    assert steps == values and sum(values) / 100 == pytest.approx(499.5)


def test_the_figure_is_the_same_every_time_and_stays_small_for_many_runs(tmp_path: Path) -> None:
    curves = [read_curves(write_scalars(tmp_path / str(number), 500)) for number in range(40)]
    assert loss_plot(curves) == loss_plot(curves)
    assert len(loss_plot(curves)) < 12 * len(loss_plot(curves[:1]))


def test_no_scalars_no_figure(tmp_path: Path) -> None:
    curves = [read_curves(read_run(tmp_path))]
    assert health_plot(curves) == loss_plot(curves) == ""
