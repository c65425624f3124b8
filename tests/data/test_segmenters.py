"""Segmentation models from their files: small ones in ONNX and of Segment Anything, in their own libraries."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from onnx_models import Body, red, red_of_colours, whole, without_numbers, write_model
from refusals import raises
from scipy.special import expit

from align_dist.data.segmenters import load_model, segment_by
from align_dist.errors import ConfigError, DataError, MachineError


def picture(red_level: int = 51) -> NDArray[np.uint8]:
    return np.full((10, 20, 3), (red_level, 0, 255), np.uint8)


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 3, 4, 6), (4, 6)), (("N", 3, "H", "W"), (320, 320)), (("N", 3, "H", 8), (320, 8))]
)
def test_pictures_are_shown_as_imagenets_networks_take_them(
    tmp_path: Path, shape: tuple[Any, ...], size: tuple[int, int]
) -> None:
    """A model that undoes the normalisation gives the picture's own red."""
    shares = load_model(write_model(tmp_path / "m.onnx", red_of_colours, shape))(picture())
    assert shares.shape == size and shares.dtype == np.float32
    assert shares.ravel().tolist() == pytest.approx([0.2] * shares.size, abs=1e-6)


def test_what_leaves_the_unit_interval_are_logits_of_every_picture(tmp_path: Path) -> None:
    """The normalised red of a picture of 0.6 lies between 0 and 1, and is a logit like any other."""
    segment = load_model(write_model(tmp_path / "m.onnx", red, (1, 3, 4, 4)))
    for level in (0, 153, 255):
        logit = (level / 255 - 0.485) / 0.229
        assert float(segment(picture(level))[0, 0]) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)


@pytest.mark.parametrize(
    ("body", "shape", "kind"),
    [
        (whole, (1, 3, 4, 4), TensorProto.FLOAT),
        (without_numbers, (1, 3, 4, 4), TensorProto.FLOAT),
        (red, (1, 1, 4, 4), TensorProto.FLOAT),
        (red, (8, 3, 4, 4), TensorProto.FLOAT),
        (red, (1, 3, 4, 4), TensorProto.DOUBLE),
    ],
)
def test_another_kind_of_model_is_refused(tmp_path: Path, body: Body, shape: tuple[Any, ...], kind: int) -> None:
    path = write_model(tmp_path / "m.onnx", body, shape, kind)
    with raises(DataError, path):
        load_model(path)


@pytest.mark.parametrize("name", ["torn.onnx", "torn.pth"])
def test_a_file_that_is_something_else_and_one_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        load_model(tmp_path / name)
    (tmp_path / name).write_bytes(b"something else")
    with raises(DataError, tmp_path / name):
        load_model(tmp_path / name)


def test_weights_of_another_network_are_not_segment_anythings(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(DataError):
        load_model(tmp_path / "other.pth")


@pytest.mark.parametrize(("name", "package"), [("m.onnx", "onnxruntime"), ("m.pth", "segment_anything")])
def test_a_missing_package_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, package: str
) -> None:
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, package, None)
    with raises(MachineError, package.replace("_", "-"), "launch/install.sh"):
        load_model(tmp_path / name)


def small_sam() -> Any:
    """Segment Anything's own modules, its image encoder of one narrow block, at 64 px."""
    modeling = importlib.import_module("segment_anything.modeling")
    torch.manual_seed(0)
    encoder = modeling.ImageEncoderViT(img_size=64, patch_size=16, embed_dim=32, depth=1, num_heads=2, out_chans=16)
    prompts = modeling.PromptEncoder(16, (4, 4), (64, 64), 4)
    transformer = modeling.TwoWayTransformer(depth=1, embedding_dim=16, mlp_dim=16, num_heads=2)
    decoder = modeling.MaskDecoder(transformer_dim=16, transformer=transformer, num_multimask_outputs=3)
    return modeling.Sam(encoder, prompts, decoder)


def test_segment_anything_is_asked_for_what_lies_in_the_middle() -> None:
    """Reference: the library's own predictor, asked the same."""
    library = pytest.importorskip("segment_anything")
    sam, pixels = small_sam(), np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    shares = segment_by(sam)(pixels)
    predictor = library.SamPredictor(sam)
    predictor.set_image(pixels)
    masks, qualities, _ = predictor.predict(np.array([[25.0, 15.0]]), np.array([1]), return_logits=True)
    best = masks[qualities.argmax()]
    assert shares.shape == (30, 50) and shares.dtype == np.float32
    np.testing.assert_allclose(shares, expit(best), atol=1e-6)
    np.testing.assert_array_equal(shares > 0.5, best > 0)
