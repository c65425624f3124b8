from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from align_dist.errors import DataError
from align_dist.report.curves import panel_tags, thinned, training_curves
from align_dist.report.rows import Run
from align_dist.report.scalars import read_scalars


def write_scalars(folder: Path, count: int = 50) -> Run:
    folder.mkdir(exist_ok=True)
    lines = [{"step": s, "loss/total": 1 / (s + 1), "mask_area": 0.3} for s in range(count)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Run(folder, True, ())


def test_scalars_by_tag_and_step_and_the_last_of_a_step_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "a": 1}\n\n{"step": 1, "a": 3, "b": NaN, "c": "text"}\n{"step": 2, "a": 5}\n')
    assert read_scalars(path) == {"a": {1: 3.0, 2: 5.0}}


def test_a_line_cut_off_by_a_kill_is_skipped_and_any_other_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1}\n{"step": 2, "a"')
    assert read_scalars(path) == {"a": {1: 1.0}}
    path.write_text('{"step": 1, "a": 1}\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl line 2"):
        read_scalars(path)


def test_panels_start_with_validation_accuracy_then_mask_area_then_losses() -> None:
    tags = ["loss/total", "lr", "mask_area", "loss/a", "validation/biased/accuracy", "epoch"]
    assert panel_tags(tags) == ["validation/biased/accuracy", "mask_area", "loss/a", "loss/total"]


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
    assert training_curves([Run(tmp_path, True, ())]) is None
