"""Whole runs that are guided, measured and drawn by an attribution to pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from align_dist.assembly import assemble
from align_dist.attribution import saliency
from align_dist.config import RunConfig
from align_dist.data.sample_keys import unaugmented
from align_dist.input_attribution import INPUT_ATTRIBUTIONS
from align_dist.run import train_run
from align_dist.training.pictures import explain_batch


@pytest.mark.parametrize("attribution", INPUT_ATTRIBUTIONS)
def test_a_run_learns_what_the_masks_say_and_is_measured_by_the_same_maps(
    squares: RunConfig, tmp_path: Path, attribution: str
) -> None:
    training = {"length": "24 steps", "warmup": "4 steps", "validate_every": "12 steps", "pictures_every": "0 epochs"}
    evaluation = {"selections": ("last",), "faithfulness_images": 4}
    config = squares.with_method("haics").model_copy(
        update={
            "runs": tmp_path,
            "classifier": squares.classifier.model_copy(update={"attribution": attribution}),
            "training": squares.training.model_copy(update=training),
            "evaluation": squares.evaluation.model_copy(update=evaluation),
        }
    )
    folder = train_run(config)
    records = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    guidance = [record["classifier/guidance"] for record in records if "classifier/guidance" in record]
    assert sum(guidance[-3:]) < 0.9 * sum(guidance[:3])
    rows = {row["domain"]: row["metrics"] for row in map(json.loads, folder.results.read_text().splitlines())}
    assert rows["bright"]["map_cells"] == 16
    assert sorted(path.stem for path in folder.pictures.iterdir()) == ["bright", "dark", "validation-bright"]


def test_a_sheet_names_the_attribution_that_it_shows(squares: RunConfig) -> None:
    shown = {}
    for attribution in ("grad_cam", "input_gradient"):
        classifier = squares.classifier.model_copy(update={"attribution": attribution})
        run = assemble(squares.model_copy(update={"classifier": classifier}))
        (batch,) = run.loader.batches_of(unaugmented(np.arange(3)), 3)
        columns, _ = explain_batch(run, batch)
        maps = run.method.classifier.module.eval()(batch.images, explain=batch.labels).cam
        (name,) = (name for name in columns if name in ("Grad-CAM", "input gradient"))
        assert (columns[name] - saliency(maps, (32, 32), run.method.places)).abs().max() < 1e-5
        shown[attribution] = name
    assert shown == {"grad_cam": "Grad-CAM", "input_gradient": "input gradient"}
