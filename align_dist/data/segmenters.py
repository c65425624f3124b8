"""Segmentation models: any ONNX file, and Segment Anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from align_dist.data.pixels import Pixels
from align_dist.errors import ConfigError, DataError, first_line, missing_package

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

Shares = NDArray[np.float32]
# From pixels (H, W, 3) to the object's share (h, w) at the model's resolution, in [0, 1].
Segment = Callable[[Pixels], Shares]
# Input side for models of any input size, as for U²-Net.
SIDE = 320
MEAN, STD = (np.array(values, np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
# Variants of Segment Anything by the width of the image encoder.
SAM_KINDS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def load_model(path: Path) -> Segment:
    """Load a model from `.onnx`, or from `.pth` with weights of Segment Anything.

    Raises ConfigError for a missing file, DataError for any other content, MachineError without the model's library.
    """
    if not path.is_file():
        raise ConfigError(f"--model: no file {path}; give a segmentation model such as u2net.onnx or sam_vit_b.pth")
    return _load_sam(path) if path.suffix == ".pth" else _load_onnx(path)


def _load_onnx(path: Path) -> Segment:
    """Load a model with one input (N, 3, H, W), normalised as for ImageNet, and a map as first output.

    A model whose output for noise exceeds [0, 1] returns logits. U²-Net's own script
    (https://github.com/xuebinqin/U-2-Net, `u2net_test.py`) also divides an image by its maximum, and stretches each map
    to [0, 1]. Neither is done here: where the model sees nothing, the stretched map is noise, and a mask that marks
    nothing is left out of guidance.
    """
    try:
        import onnxruntime
    except ImportError:
        raise missing_package("onnxruntime", "an ONNX model", "masks") from None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = int((os.environ.get("OMP_NUM_THREADS") or "0").split(",")[0])
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime's errors have no common base class
        raise DataError(
            f"{path}: not a readable ONNX model ({first_line(error)}); download or export it again"
        ) from None
    name, side = _input_of(session, path)

    def output_of(pixels: Pixels) -> NDArray[np.float64]:
        return _map_in(session.run(None, {name: _model_input(pixels, side)})[0], path)

    noise = np.random.default_rng(0).integers(0, 256, (*side, 3), dtype=np.uint8)
    gives_logits = _exceeds_unit_interval(output_of(noise))

    def segment(pixels: Pixels) -> Shares:
        output = output_of(pixels)
        if gives_logits:
            return _shares(output)
        if _exceeds_unit_interval(output):
            raise DataError(f"{path}: outputs lie in [0, 1] for some images only; export it with a final sigmoid")
        return output.clip(0, 1).astype(np.float32)

    return segment


def _load_sam(path: Path) -> Segment:
    """Load Segment Anything (Kirillov et al. 2023, https://arxiv.org/abs/2304.02643), in the variant of the weights."""
    try:
        from segment_anything import sam_model_registry
    except ImportError:
        raise missing_package("segment-anything", "a SAM model", "sam") from None
    import torch

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        kind = SAM_KINDS[weights["image_encoder.pos_embed"].shape[-1]]
        sam = sam_model_registry[kind]()
        sam.load_state_dict(weights)
    except Exception as error:  # errors of pickle, torch and keys all mean another kind of file
        raise DataError(f"{path}: not weights of Segment Anything ({first_line(error)}); download them again") from None
    return segment_by(sam.to("cuda" if torch.cuda.is_available() else "cpu"))


def segment_by(sam: Sam) -> Segment:
    """Segment the object at the centre of an image: the prompt is the central point, and of the model's three masks
    the one with the highest predicted quality is used. The paper does not state its prompt.
    """
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam.eval())

    def segment(pixels: Pixels) -> Shares:
        predictor.set_image(pixels)
        height, width = pixels.shape[:2]
        centre, is_object = np.array([[width / 2, height / 2]]), np.array([1])
        logits, qualities, _ = predictor.predict(centre, is_object, multimask_output=True, return_logits=True)
        return _shares(logits[int(qualities.argmax())])

    return segment


def _shares(logits: NDArray[Any]) -> Shares:
    shares: Shares = expit(logits).astype(np.float32)
    return shares


def _input_of(session: Any, path: Path) -> tuple[str, tuple[int, int]]:
    """Name, height and width of a model's input."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    count = shape[0] if len(shape) == 4 else None
    if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or (isinstance(count, int) and count != 1):
        signature = "; ".join(f"{node.name} {node.shape}" for node in inputs)
        raise DataError(f"{path}: takes {signature}; expected one input, 1 or N × 3 × height × width; export it so")
    if inputs[0].type != "tensor(float)":
        raise DataError(f"{path}: takes {inputs[0].type}; export it in 32-bit floating point")
    height, width = (side if isinstance(side, int) else SIDE for side in shape[2:])
    return inputs[0].name, (height, width)


def _model_input(pixels: Pixels, side: tuple[int, int]) -> NDArray[np.float32]:
    height, width = side
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return np.ascontiguousarray(((resized / 255 - MEAN) / STD).transpose(2, 0, 1)[None], np.float32)


def _map_in(output: NDArray[np.float32], path: Path) -> NDArray[np.float64]:
    shape = output.shape
    if len(shape) != 4 or shape[:2] != (1, 1) or not np.isfinite(output).all():
        raise DataError(f"{path}: the first output is {shape}; expected 1 × 1 × height × width, finite; export it so")
    values: NDArray[np.float64] = output[0, 0].astype(np.float64)
    return values


def _exceeds_unit_interval(values: NDArray[np.float64]) -> bool:
    return bool(values.min() < -1e-3 or values.max() > 1 + 1e-3)
