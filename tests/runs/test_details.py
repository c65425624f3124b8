"""What a real run leaves of its results' details."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from align_dist.config import RunConfig
from align_dist.run import train_run
from align_dist.runs.details import Details, read_details, write_details
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import read_rows


@pytest.fixture(scope="module")
def folder(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train_run(squares.model_copy(update={"runs": tmp_path_factory.mktemp("runs")}), lambda _: None)


@pytest.mark.parametrize("domain", ["bright", "dark"])
def test_a_run_leaves_details_that_agree_with_its_results(folder: RunFolder, domain: str) -> None:
    details = read_details(folder.details / f"{domain}.npz")
    (row,) = (row for row in read_rows(folder.results) if (row.selection, row.domain) == ("validation", domain))
    assert details is not None and details.curves is not None and details.examples is not None
    assert (details.selection, details.step, details.fingerprint) == ("validation", row.step, row.fingerprint)
    count, confidence, right = details.calibration.sum(0)
    assert details.classes == ("left", "right")
    assert details.confusion.sum() == count == row.images
    assert details.confusion.trace() / count == right / count == pytest.approx(row.metrics["accuracy"], abs=1e-5)
    assert 0.5 <= confidence / count <= 1
    curves, examples = details.curves, details.examples
    for name, curve in (("insertion_auc", curves.insertion), ("deletion_auc", curves.deletion)):
        assert np.trapezoid(curve, dx=1 / (len(curve) - 1)) == pytest.approx(row.metrics[name], abs=1e-5)
    # Nothing deleted is everything inserted.
    assert curves.deletion[0] == pytest.approx(curves.insertion[-1], abs=1e-5)
    count = curves.images
    assert {len(values) for values in vars(examples).values()} == {count}
    assert examples.images.shape == (count, 32, 32, 3)
    assert examples.saliency.shape == examples.masks.shape == examples.objects.shape == (count, 32, 32)
    # The objects are light squares: what is marked is light in the picture, JPEG's errors aside.
    assert examples.images[examples.objects > 0].mean() == pytest.approx(230, abs=6)
    assert (examples.images[examples.objects == 0]).mean() < 80
    assert (examples.saliency.max((1, 2)) > 200).all()


def test_nothing_is_left_of_explanations_that_were_not_measured(tmp_path: Path) -> None:
    details = Details("last", 3, "f", ("left", "right"), np.eye(2, dtype=np.int64), np.array([[0.0, 0, 0], [4, 3, 2]]))
    write_details(tmp_path, {"a": details})
    read = read_details(tmp_path / "a.npz")
    assert read is not None and read.curves is None and read.examples is None
    assert read.calibration_error == pytest.approx(1 / 4)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 torn"])
def test_a_missing_or_damaged_file_has_no_details(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    assert read_details(tmp_path / "a.npz") is None
