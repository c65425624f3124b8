"""From odd files to the beton: what `align-dist data prepare` stores and says, and what a run says of its task."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import completed
from PIL import Image
from refusals import raises

from align_dist.config import BenchmarkConfig, RunConfig, to_yaml
from align_dist.data.comparison import checked_manifest
from align_dist.data.manifest import Manifest
from align_dist.data.prepare import prepare
from align_dist.errors import DataError
from align_dist.run import train_run

TREE = {"paint": {"cat": 3, "dog": 2}, "photo": {"cat": 2, "dog": 2}}


@pytest.fixture
def benchmark(tmp_path: Path, pictures: Any) -> BenchmarkConfig:
    root = pictures(tmp_path / "images", TREE)
    return BenchmarkConfig(name="folders", root=root, betons=tmp_path / "betons", storage="raw", max_side=64)


def stored(benchmark: BenchmarkConfig, manifest: Manifest, field: str, path: str) -> np.ndarray:
    """The pixels (H, W, 3) of one sample, by FFCV's own reader."""
    import torch  # noqa: F401
    from ffcv.reader import Reader

    reader = Reader(str(benchmark.beton))
    row = reader.metadata[f"f{reader.field_names.index(field)}"][manifest.paths.index(path)]
    shape = (int(row["height"]), int(row["width"]), 3)
    start = int(row["data_ptr"])
    return np.frombuffer(benchmark.beton.read_bytes(), np.uint8, int(np.prod(shape)), start).reshape(shape)


def test_odd_modes_are_stored_as_they_look_and_counted(
    benchmark: BenchmarkConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = benchmark.root / "photo" / "cat"
    ramp = np.linspace(0, 1, 30 * 40).reshape(30, 40)
    Image.fromarray((ramp * 65535).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(ramp.astype(np.float32)).save(folder / "float.tif")
    clear = np.zeros((30, 40, 4), np.uint8)
    clear[10:, :, 3] = 255
    Image.fromarray(clear).save(folder / "clear.png")
    manifest = prepare(benchmark)
    for name in ("deep.png", "float.tif"):
        pixels = stored(benchmark, manifest, "image", f"photo/cat/{name}")
        assert np.abs(pixels[..., 1] - ramp * 255).max() <= 1
    pixels = stored(benchmark, manifest, "image", "photo/cat/clear.png")
    assert (pixels[:10] == 255).all() and (pixels[10:] == 0).all()
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if "transparent" in line]
    assert line.startswith("1 images") and "photo/cat/clear.png" in line


def masked(benchmark: BenchmarkConfig, values: Any) -> BenchmarkConfig:
    """The benchmark with a mask for every picture: `values` of a boolean square, as its file holds them."""
    square = np.zeros((30, 40), bool)
    square[5:20, 10:30] = True
    masks = benchmark.root.parent / "masks"
    for path in benchmark.root.rglob("*.png"):
        target = masks / path.relative_to(benchmark.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values(square)).save(target)
    return benchmark.model_copy(update={"masks": masks})


def test_index_masks_reach_the_beton_as_the_object(
    benchmark: BenchmarkConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    described = masked(benchmark, lambda square: square.astype(np.uint8) * 12)
    mask = stored(described, prepare(described), "mask", "photo/dog/dog_001.png")
    assert (mask[5:20, 10:30] == 255).all() and mask.sum() == 255 * 15 * 20 * 3
    assert "12" in capsys.readouterr().err


def test_a_list_of_values_chooses_and_is_in_the_manifest(benchmark: BenchmarkConfig) -> None:
    described = masked(benchmark, lambda square: np.where(square, 128, 64).astype(np.uint8))
    with raises(DataError, "masks/", ".png", "64, 128", "benchmark.mask_values"):
        prepare(described)
    assert not described.betons.exists()
    explicit = described.model_copy(update={"mask_values": (128,)})
    manifest = prepare(explicit)
    assert manifest.mask_values == (128,) and prepare(explicit) == manifest
    with raises(DataError, "benchmark.mask_values"):
        checked_manifest(explicit.model_copy(update={"mask_values": (64,)}))
    assert stored(explicit, manifest, "mask", "photo/dog/dog_001.png").sum() == 255 * 15 * 20 * 3


def test_one_class_is_refused_before_anything_is_written(tmp_path: Path, pictures: Any) -> None:
    root = pictures(tmp_path / "images", {"paint": {"cat": 3}, "photo": {"cat": 3}})
    with raises(DataError, "'cat'"):
        prepare(BenchmarkConfig(name="folders", root=root, betons=tmp_path / "betons"))
    assert not (tmp_path / "betons").exists()


def test_prepare_tells_of_copies_each_time(benchmark: BenchmarkConfig, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(benchmark.root / "photo" / "cat" / "cat_000.png", benchmark.root / "paint" / "dog" / "zz.png")
    for _ in range(2):
        prepare(benchmark)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert len(lines) == 2 and all("2 images" in line and "paint/dog/zz.png" in line for line in lines)


@pytest.fixture
def few(squares: RunConfig, tmp_path: Path) -> RunConfig:
    """A run whose target domain has one image a class."""
    root = tmp_path / "images"
    shutil.copytree(squares.benchmark.root, root)
    for label in ("left", "right"):
        for path in sorted((root / "dark" / label).iterdir())[1:]:
            path.unlink()
    others = {"root": root, "masks": None, "betons": tmp_path / "betons", "fingerprint": None}
    benchmark = squares.benchmark.model_copy(update=others)
    prepare(benchmark)
    return squares.model_copy(update={"runs": tmp_path / "runs", "benchmark": benchmark, "method": "erm"})


def test_a_target_of_one_image_a_class_is_trained_without_an_oracle_and_told_once(few: RunConfig) -> None:
    messages: list[str] = []
    folder = train_run(few, messages.append)
    assert folder.done.exists()
    lines = [line for line in messages if line.startswith("warning: ")]
    assert len(lines) == 1 and "'dark'" in lines[0] and "0 of 2" in lines[0]
    assert "dark" in folder.results.read_text() and '"oracle"' not in folder.results.read_text()


def test_a_source_of_one_class_is_refused_in_one_line(few: RunConfig, tmp_path: Path) -> None:
    root = few.benchmark.root
    shutil.rmtree(root / "bright" / "left")
    shutil.rmtree(root / "dark" / "right")
    shutil.copytree(root / "dark", root / "dusk")
    shutil.copytree(root / "bright", root / "noon")
    prepare(few.benchmark, force=True)
    (tmp_path / "run.yaml").write_text(to_yaml(few))
    finished = completed("-m", "align_dist.cli", "train", str(tmp_path / "run.yaml"))
    assert finished.returncode == 3 and "Traceback" not in finished.stderr
    assert "'right'" in finished.stderr.splitlines()[-1]
