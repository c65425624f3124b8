from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from align_dist.config import RunConfig
from align_dist.report.curves import panel_tags, thinned, training_curves
from align_dist.report.measures import measure
from align_dist.report.rows import Run, read_run
from align_dist.run import train_run
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import read_scalars, write_metrics


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


def test_a_real_run_shows_accuracy_the_masks_area_and_the_loss_of_each_network(align: RunFolder) -> None:
    tags = read_scalars(align.metrics)
    assert panel_tags(tags) == [
        "validation/accuracy",
        "mask/area",
        "validation/commonest_cell",
        "validation/map_following",
        "classifier/loss",
        "masker/loss",
    ]
    assert all(len(tags[tag]) > 1 for tag in panel_tags(tags))
    assert training_curves([read_run(align.path)]) is not None


def test_every_measure_of_a_real_run_is_explained(align: RunFolder) -> None:
    rows = [json.loads(line) for line in align.results.read_text().splitlines()]
    names = {name for row in rows for name in row["metrics"] if not name.startswith("accuracy_of/")}
    assert "mask_binariness" in names
    assert {name for name in names if not measure(name).meaning} == set()


def test_thinning_keeps_short_series_and_the_mean_of_long_ones() -> None:
    assert thinned({1: 2.0, 5: 4.0}) == ([1.0, 5.0], [2.0, 4.0])
    steps, values = thinned({s: float(s) for s in range(1000)}, 100)
    assert len(steps) == 100
    assert steps == values and sum(values) / 100 == pytest.approx(499.5)


def test_the_figure_is_a_picture_and_the_same_every_time(tmp_path: Path) -> None:
    runs = [write_scalars(tmp_path / "one"), write_scalars(tmp_path / "two", 500)]
    png = training_curves(runs)
    assert png is not None and png == training_curves(runs)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    colours = {colour for _, colour in picture.getcolors(maxcolors=2**24) or []}
    assert len(colours) > 50 and min(picture.size) > 200


def test_no_scalars_no_figure(tmp_path: Path) -> None:
    assert training_curves([read_run(tmp_path)]) is None
