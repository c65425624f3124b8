"""Masks of a benchmark's pictures, by small models, and by a real one where it is there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from onnx_models import red_of_colours, write_model
from PIL import Image
from refusals import raises

from align_dist import cli
from align_dist.config import BenchmarkConfig, RunConfig, to_yaml
from align_dist.data.prepare import prepare
from align_dist.data.segmentation import RECORD, write_masks
from align_dist.errors import ConfigError, DataError

U2NET = Path(os.environ.get("ALIGN_DIST_SHARED", "")) / "data/weights/u2netp.onnx"


@pytest.fixture
def benchmark(tmp_path: Path) -> BenchmarkConfig:
    """Two domains of two classes of two pictures, one of them wider than high: a light square on grey."""
    for domain in ("a", "b"):
        for label in ("left", "right"):
            folder = tmp_path / "images" / domain / label
            folder.mkdir(parents=True)
            for index, size in enumerate(((40, 24), (32, 32))):
                picture = Image.new("RGB", size, (90, 90, 90))
                picture.paste((250, 240, 230), (4, 4, 20, 20) if label == "left" else (12, 4, 28, 20))
                picture.save(folder / f"{index}.png")
    masks = {"masks": tmp_path / "masks", "mask_values": "soft", "betons": tmp_path / "betons"}
    return BenchmarkConfig(name="folders", root=tmp_path / "images", storage="raw", **masks)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose shares are the picture's red, at the size that it takes, 16 × 16."""
    return write_model(tmp_path / "red.onnx", red_of_colours, (1, 3, 16, 16))


def masks_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): Image.open(path).size for path in sorted(folder.glob("**/*.png"))}


def test_a_mask_of_each_picture_at_its_size_is_read_as_shares(benchmark: BenchmarkConfig, model: Path) -> None:
    assert benchmark.masks is not None
    assert write_masks(benchmark, model) == 8
    sizes = masks_in(benchmark.masks)
    assert len(sizes) == 8 and sizes["a/left/0.png"] == (40, 24) and sizes["b/right/1.png"] == (32, 32)
    mask = np.asarray(Image.open(benchmark.masks / "a" / "left" / "0.png"))
    assert mask.dtype == np.uint8 and abs(int(mask[10, 10]) - 250) <= 1 and abs(int(mask[22, 38]) - 90) <= 1
    assert prepare(benchmark).has_masks
    assert not list(benchmark.masks.glob("**/.*"))


def test_it_goes_on_where_it_stopped_and_makes_again_what_changed(
    benchmark: BenchmarkConfig, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.masks is not None
    write_masks(benchmark, model)
    mask_path, changed = benchmark.masks / "a" / "left" / "0.png", benchmark.root / "b" / "right" / "1.png"
    mask_path.unlink()
    Image.new("RGB", (20, 10)).save(changed)
    later = changed.stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(later, later))
    times = {path: path.stat().st_mtime_ns for path in benchmark.masks.glob("**/*.png")}
    assert write_masks(benchmark, model) == 2 and mask_path.exists()
    moved = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert moved == {"1.png"} and masks_in(benchmark.masks)["b/right/1.png"] == (20, 10)
    out, err = capsys.readouterr()
    assert "2 images" in err and all(part in out for part in ("2 masks", "6 ", "benchmark.mask_values=soft"))


def test_masks_of_two_models_are_never_mixed(benchmark: BenchmarkConfig, model: Path, tmp_path: Path) -> None:
    assert benchmark.masks is not None
    write_masks(benchmark, model)
    record = json.loads((benchmark.masks / RECORD).read_text())
    assert record["model"] == "red.onnx" and len(record["sha256"]) == 64
    other = write_model(tmp_path / "other.onnx", red_of_colours, (1, 3, 8, 8))
    with raises(DataError, "red.onnx", "other.onnx"):
        write_masks(benchmark, other)
    (benchmark.masks / RECORD).unlink()
    with raises(DataError, RECORD):
        write_masks(benchmark, model)


def test_what_cannot_be_is_one_line(benchmark: BenchmarkConfig, model: Path) -> None:
    with raises(ConfigError, "benchmark.masks: "):
        write_masks(benchmark.model_copy(update={"masks": None}), model)
    broken = benchmark.root / "a" / "left" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with raises(DataError, "a/left/1.png"):
        write_masks(benchmark, model)
    assert write_masks(benchmark.model_copy(update={"on_unreadable": "skip"}), model) == 6
    broken.write_bytes(whole)
    Image.new("RGB", (8, 8)).save(broken.with_suffix(".jpg"))
    with raises(DataError, "a/left/1.png", "1.jpg"):
        write_masks(benchmark, model)


@pytest.mark.skipif(not U2NET.is_file(), reason="real U²-Net-p: set ALIGN_DIST_SHARED")
def test_a_real_model_finds_the_object(
    squares: RunConfig, benchmark: BenchmarkConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, on a disc on grey."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert benchmark.masks is not None
    height, width = np.mgrid[:120, :160]
    disc = (height - 50) ** 2 + (width - 90) ** 2 < 30**2
    for path in benchmark.root.glob("*/*/*.png"):
        Image.fromarray(np.where(disc[..., None], (220, 60, 30), (110, 120, 115)).astype(np.uint8)).save(path)
    (tmp_path / "run.yaml").write_text(to_yaml(squares.model_copy(update={"benchmark": benchmark})))
    assert cli.main(["data", "masks", str(tmp_path / "run.yaml"), "--model", str(U2NET)]) == 0
    assert "8 masks written" in capsys.readouterr().out
    mask = np.asarray(Image.open(benchmark.masks / "a" / "left" / "0.png")) / 255
    assert mask.shape == (120, 160)
    assert mask[disc].mean() > 0.8 and mask[~disc].mean() < 0.1
