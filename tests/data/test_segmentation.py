"""Masks by a segmentation model: a real one where it is there, and what surrounds it with made-up ones."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from align_dist import cli
from align_dist.config import BenchmarkConfig, RunConfig, to_yaml
from align_dist.data import segmentation
from align_dist.data.prepare import prepare
from align_dist.data.segmentation import RECORD, load_model, write_masks
from align_dist.errors import ConfigError, DataError, MachineError

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
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is taken for a model whose shares are the picture's red, at half its size."""

    def red(pixels: Any) -> Any:
        return np.ascontiguousarray(pixels[::2, ::2, 0], np.float32) / 255

    monkeypatch.setattr(segmentation, "load_model", lambda path: red)
    path = tmp_path / "red.onnx"
    path.write_bytes(b"red")
    return path


def masks_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): Image.open(path).size for path in sorted(folder.glob("**/*.png"))}


def test_a_mask_of_each_picture_at_its_size_is_read_as_shares(benchmark: BenchmarkConfig, model: Path) -> None:
    assert benchmark.masks is not None
    assert write_masks(benchmark, model) == 8
    sizes = masks_in(benchmark.masks)
    assert len(sizes) == 8 and sizes["a/left/0.png"] == (40, 24) and sizes["b/right/1.png"] == (32, 32)
    mask = np.asarray(Image.open(benchmark.masks / "a" / "left" / "0.png"))
    assert mask.dtype == np.uint8 and mask[10, 10] == 250 and mask[22, 38] == 90
    assert prepare(benchmark).has_masks
    assert not list(benchmark.masks.glob("**/.*"))


def test_it_goes_on_where_it_stopped_and_makes_again_what_changed(
    benchmark: BenchmarkConfig, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.masks is not None
    write_masks(benchmark, model)
    gone, changed = benchmark.masks / "a" / "left" / "0.png", benchmark.root / "b" / "right" / "1.png"
    gone.unlink()
    Image.new("RGB", (20, 10)).save(changed)
    later = changed.stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(later, later))
    kept = {path: path.stat().st_mtime_ns for path in benchmark.masks.glob("**/*.png")}
    assert write_masks(benchmark, model) == 2 and gone.exists()
    moved = {path.name for path, time in kept.items() if path.stat().st_mtime_ns != time}
    assert moved == {"1.png"} and masks_in(benchmark.masks)["b/right/1.png"] == (20, 10)
    told = capsys.readouterr()
    assert "masks: 2 pictures" in told.err and "2 masks written, 6 kept; benchmark.mask_values=soft" in told.out


def test_masks_of_two_models_are_never_mixed(benchmark: BenchmarkConfig, model: Path, tmp_path: Path) -> None:
    assert benchmark.masks is not None
    write_masks(benchmark, model)
    told = json.loads((benchmark.masks / RECORD).read_text())
    assert told["model"] == "red.onnx" and len(told["sha256"]) == 64
    other = tmp_path / "other.onnx"
    other.write_bytes(b"other")
    with pytest.raises(DataError, match=r"holds masks of red\.onnx \(\w{12}…\), not of other\.onnx; choose another"):
        write_masks(benchmark, other)
    (benchmark.masks / RECORD).unlink()
    with pytest.raises(DataError, match=rf"holds masks, and no {RECORD}"):
        write_masks(benchmark, model)


def test_what_cannot_be_is_one_line(benchmark: BenchmarkConfig, model: Path) -> None:
    with pytest.raises(ConfigError, match=r"benchmark\.masks: not set"):
        write_masks(benchmark.model_copy(update={"masks": None}), model)
    broken = benchmark.root / "a" / "left" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"1\.png: not a readable picture") as caught:
        write_masks(benchmark, model)
    assert "\n" not in str(caught.value)
    broken.write_bytes(whole)
    Image.new("RGB", (8, 8)).save(broken.with_suffix(".jpg"))
    with pytest.raises(DataError, match=r"would share the mask .*left/1\.png; rename one"):
        write_masks(benchmark, model)


def made_up(monkeypatch: pytest.MonkeyPatch, shape: list[Any], output: Any) -> list[Any]:
    """An onnxruntime whose every model takes `shape` and gives `output`; returns what the models were shown."""
    seen: list[Any] = []

    class Session:
        def __init__(self, *given: Any, **keywords: Any) -> None:
            if isinstance(output, Exception):
                raise output

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="x", shape=shape, type="tensor(float)")]

        def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
            seen.append(inputs["x"])
            return [np.asarray(output, np.float32), "more"]

    runtime = SimpleNamespace(
        SessionOptions=SimpleNamespace, InferenceSession=Session, get_available_providers=lambda: ["CPU"]
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return seen


@pytest.mark.parametrize(
    ("shape", "size"), [([1, 3, 4, 6], (4, 6)), (["N", 3, "H", "W"], (320, 320)), ([None, 3, None, 8], (320, 8))]
)
def test_pictures_are_shown_as_imagenets_networks_take_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shape: list[Any], size: tuple[int, int]
) -> None:
    (tmp_path / "m.onnx").touch()
    seen = made_up(monkeypatch, shape, [[[[0.0, 0.25], [0.5, 1.0]]]])
    found = load_model(tmp_path / "m.onnx")(np.full((10, 20, 3), (255, 0, 51), np.uint8))
    assert found.tolist() == [[0.0, 0.25], [0.5, 1.0]]
    assert seen[0].shape == (1, 3, *size) and seen[0].dtype == np.float32
    assert seen[0][0, :, 1, 1].tolist() == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225])


def test_logits_become_shares(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    made_up(monkeypatch, [1, 3, 4, 4], [[[[-100.0, 0.0], [np.log(3), 100.0]]]])
    found = load_model(tmp_path / "m.onnx")(np.zeros((4, 4, 3), np.uint8))
    assert found.ravel().tolist() == pytest.approx([0, 0.5, 0.75, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "output", "told"),
    [
        ([1, 3, 4, 4], np.zeros((1, 2, 4, 4)), r"its first output is \(1, 2, 4, 4\)"),
        ([1, 3, 4, 4], np.full((1, 1, 4, 4), np.nan), r"finite"),
        ([1, 1, 4, 4], np.zeros((1, 1, 4, 4)), r"takes x \[1, 1, 4, 4\]; a segmentation model takes"),
        ([8, 3, 4, 4], np.zeros((1, 1, 4, 4)), r"takes x \[8, 3, 4, 4\]"),
        ([1, 3, 4, 4], RuntimeError("torn\nprotobuf"), r"not a readable ONNX model \(torn\)"),
    ],
)
def test_another_kind_of_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shape: list[Any], output: Any, told: str
) -> None:
    (tmp_path / "m.onnx").touch()
    made_up(monkeypatch, shape, output)
    with pytest.raises(DataError, match=told):
        load_model(tmp_path / "m.onnx")(np.zeros((4, 4, 3), np.uint8))


def test_a_missing_file_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--model: no file .*none\.onnx"):
        load_model(tmp_path / "none.onnx")
    (tmp_path / "m.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineError, match=r"onnxruntime is not installed.*launch/install\.sh \S*masks"):
        load_model(tmp_path / "m.onnx")


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
