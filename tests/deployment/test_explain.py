"""`align-dist explain` and `export`, as a user types them."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import onnxruntime
import pytest
import torch
from forked import completed
from PIL import Image

import align_dist
from align_dist.cli import main
from align_dist.runs.folder import RunFolder


def align(*arguments: object) -> subprocess.CompletedProcess[str]:
    return completed("-m", "align_dist.cli", *map(str, arguments))


@pytest.fixture(scope="module")
def album(trained: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures in two folders, one of a name that HTML has a use for, and two that are none."""
    folder = tmp_path_factory.mktemp("album")
    paths = sorted(trained.config().benchmark.root.rglob("*.png"))[::20]
    for number, path in enumerate(paths[:4]):
        (folder / str(number % 2)).mkdir(exist_ok=True)
        shutil.copy(path, folder / str(number % 2) / f"{number}.png")
    shutil.copy(paths[4], folder / "a & b's <c>.png")
    (folder / "torn.png").write_bytes(paths[0].read_bytes()[:50])
    (folder / "notes.txt").write_text("not a picture, and not taken for one")
    return folder


class Sources(HTMLParser):
    """The images and links that a page names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.images.append((values["src"] or "", values["alt"] or ""))


def test_new_pictures_get_images_a_table_and_a_page(trained: RunFolder, album: Path, tmp_path: Path) -> None:
    finished = align("explain", trained.path, album, "--out", tmp_path / "out")
    assert finished.returncode == 0, finished.stderr
    assert "torn.png" in finished.stderr and "notes.txt" not in finished.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "explanations.csv").open()))
    pictures = sorted(path for path in album.rglob("*.png") if path.name != "torn.png")
    assert [row["picture"] for row in rows] == [str(path) for path in pictures]
    model = align_dist.load(trained.path)
    for row, values in zip(rows, model.predict(pictures), strict=True):
        assert [float(row[name]) for name in model.classes] == pytest.approx(values.tolist(), abs=1e-5)
        assert row["class"] == model.classes[int(values.argmax())]
    images = Sources((tmp_path / "out" / "index.html").read_text()).images
    assert len(images) == 4 * len(pictures) and all(alt for _, alt in images)
    for source, _ in images:
        with Image.open(tmp_path / "out" / unquote(source)) as image:
            assert image.size == (32, 32)


def test_what_cannot_be_explained_is_one_line(
    trained: RunFolder, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "empty", tmp_path / "absent.png", album / "torn.png"):
        assert main(["explain", str(trained.path), str(place), "--out", str(tmp_path / "out")]) == 3
        assert str(place) in capsys.readouterr().err.splitlines()[-1]
        assert not (tmp_path / "out").exists()
    twins = tmp_path / "twins"
    twins.mkdir()
    for suffix in (".png", ".jpg"):
        Image.new("RGB", (32, 32)).save(twins / f"one{suffix}")
    assert main(["explain", str(trained.path), str(twins), "--out", str(tmp_path / "out")]) == 3
    assert "one.png" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main(["explain", str(trained.path), str(album), "--out", str(tmp_path / "file")]) == 7
    assert main(["export", str(trained.path), str(tmp_path / "model.bin"), str(album / "0")]) == 2
    assert "model.bin" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "twins"]


def test_plain_weights_load_into_a_plain_network(trained: RunFolder, album: Path, tmp_path: Path) -> None:
    pictures = sorted(path for path in album.rglob("*.png") if path.name != "torn.png")
    assert align("export", trained.path, tmp_path / "model.pth", *pictures).returncode == 0
    description = json.loads((tmp_path / "model.pth.json").read_text())
    assert description["outputs"] == ["logits"]
    module, _, call = description["network"].rpartition(".build_backbone(")
    network = eval(f"build_backbone({call}", vars(importlib.import_module(module)))
    network.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    size = description["image_size"]
    pixels = [
        np.asarray(Image.open(path).convert("RGB").resize((size, size), 2), np.float32) / 255 for path in pictures
    ]
    images = (np.stack(pixels) - np.float32(description["mean"])) / np.float32(description["std"])
    with torch.no_grad():
        values = network.eval()(torch.from_numpy(images).movedim(-1, 1)).softmax(1)
    torch.testing.assert_close(values, align_dist.load(trained.path).predict(pictures), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx"])
def test_an_exported_program_explains_as_the_model_does(
    trained: RunFolder, album: Path, tmp_path: Path, name: str
) -> None:
    pictures = sorted(path for path in album.rglob("*.png") if path.name != "torn.png")
    finished = align("export", trained.path, tmp_path / name, album / "0", album / "1")
    assert finished.returncode == 0, finished.stderr
    model = align_dist.load(trained.path)
    images = model.normalise(model.pixels(pictures))
    if name.endswith("onnx"):
        session = onnxruntime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"])
        outputs = [torch.from_numpy(values) for values in session.run(None, {"images": images.numpy()})]
    else:
        outputs = list(torch.export.load(tmp_path / name).module()(images))
    explanation = model.explain(pictures)
    assert explanation.mask is not None
    expected = (explanation.probabilities, explanation.attribution, explanation.mask)
    for values, wanted in zip(outputs, expected, strict=True):
        torch.testing.assert_close(values, wanted, atol=1e-4, rtol=0)
