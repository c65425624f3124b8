"""A trained run gives new pictures what evaluation gave them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import raises

import align_dist
from align_dist.assembly import assemble
from align_dist.config import RunConfig
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.sample_keys import unaugmented
from align_dist.errors import CheckpointError, DataError
from align_dist.run import train_run
from align_dist.runs.folder import RunFolder


def paths_of(config: RunConfig) -> list[Path]:
    """The benchmark's pictures in the order of sample ids."""
    return [sample.path for sample in read_benchmark(config.benchmark.name, config.benchmark.root).samples]


def test_pictures_get_the_probabilities_that_evaluation_gives_them(trained: RunFolder) -> None:
    config = trained.config()
    model = align_dist.load(trained.path)
    samples = np.arange(0, 96, 5)
    loader = assemble(config).loader
    batches = list(loader.batches_of(unaugmented(samples), 8))
    expected = torch.cat([torch.softmax(model.classifier(batch.images), dim=1) for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    paths = paths_of(config)
    probabilities = model.predict([paths[sample] for sample in samples])
    torch.testing.assert_close(probabilities, expected, atol=1e-4, rtol=0)
    assert [paths[sample].parent.name for sample in samples] == [model.classes[label] for label in labels]


def test_an_explanation_has_a_map_and_a_mask_of_each_picture(trained: RunFolder) -> None:
    model = align_dist.load(str(trained.path), selection="last")
    pictures = [Image.open(path) for path in paths_of(trained.config())[:3]]
    explanation = model.explain(pictures)
    assert explanation.probabilities.shape == (3, 2)
    assert explanation.mask is not None
    for maps in (explanation.attribution, explanation.mask):
        assert maps.shape == (3, 32, 32) and maps.min() >= 0 and maps.max() <= 1
    assert torch.equal(explanation.labels, explanation.probabilities.argmax(1))
    others = model.explain(explanation.images, 1 - explanation.labels)
    assert torch.equal(others.probabilities, explanation.probabilities)
    assert not torch.equal(others.attribution, explanation.attribution)


def test_a_method_without_a_masker_has_no_mask(squares: RunConfig, tmp_path: Path) -> None:
    config = squares.with_method("erm").model_copy(update={"runs": tmp_path})
    folder = train_run(config, lambda _: None, sources_only=True)
    assert align_dist.load(folder.path).explain(paths_of(config)[:1]).mask is None


def test_a_run_is_used_without_its_beton(trained: RunFolder, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(trained.path, moved)
    description = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(description.replace(str(trained.config().benchmark.betons), "/nowhere"))
    assert align_dist.load(moved).classes == align_dist.load(trained.path).classes
    (moved / "classes.json").unlink()
    with pytest.raises(DataError):
        align_dist.load(moved)


def test_what_is_no_model_or_no_picture_is_refused(trained: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        align_dist.load(tmp_path)
    with raises(CheckpointError, "validation_worst_group", "last"):
        align_dist.load(trained.path, selection="validation_worst_group")
    (tmp_path / "odd.jpg").write_text(json.dumps("no picture"))
    with pytest.raises(DataError) as caught:
        align_dist.load(trained.path).predict([tmp_path / "odd.jpg"])
    assert "odd.jpg" in str(caught.value)
