"""Masks by a segmentation model: what `align-dist data masks` does, once for all of a benchmark's pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from align_dist.config.sections import BenchmarkConfig
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.catalogue import Sample
from align_dist.data.contents import file_sha256
from align_dist.data.pixels import Pixels, open_picture, to_rgb, upright
from align_dist.data.progress import progress
from align_dist.errors import ConfigError, DataError, MachineError
from align_dist.files import read_json, write_text, write_whole

RECORD = "made_from.json"
# Of models that take any: U²-Net's.
SIDE = 320
MEAN, DEVIATION = (np.array(values, np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
# Pixels (H, W, 3) of a picture to the object's share of each of the model's places (h, w), in [0, 1].
Segment = Callable[[Pixels], NDArray[np.float32]]


def write_masks(benchmark: BenchmarkConfig, model: Path) -> int:
    """Writes `<masks>/<domain>/<class>/<stem>.png` of each picture, at its size, 0 to 255; says how many were missing.

    A mask that is no older than its picture is kept, so that the command goes on where it was stopped. Raises
    ConfigError, DataError and MachineError, in one line, for what cannot be; masks of two models are never mixed.
    """
    folder = benchmark.masks
    if folder is None:
        raise ConfigError("benchmark.masks: not set; say in which folder masks are to lie, such as masks/u2net")
    segment = load_model(model)
    samples = read_benchmark(
        benchmark.name, benchmark.root, metadata=benchmark.metadata, agreement=benchmark.agreement
    ).samples
    places = _places(samples, folder)
    _claim(folder, model)
    missing = [(sample.path, place) for sample, place in zip(samples, places, strict=True) if _is_due(sample, place)]
    with progress("masks", len(missing), "pictures") as tell:
        for done, (path, place) in enumerate(missing, 1):
            _write_mask(path, place, segment)
            tell(done)
    print(f"{folder}: {len(missing):,} masks written, {len(places) - len(missing):,} kept; benchmark.mask_values=soft")
    return len(missing)


def load_model(path: Path) -> Segment:
    """A model of one input (N, 3, H, W), colours as ImageNet's networks take them, and of one map as first output.

    A map that leaves [0, 1] is taken for logits. Raises ConfigError for a missing file, DataError for another kind of
    model, MachineError without onnxruntime.
    """
    if not path.is_file():
        raise ConfigError(f"--model: no file {path}; it takes a segmentation model in ONNX, such as u2net.onnx")
    try:
        import onnxruntime
    except ImportError:
        raise MachineError(
            "onnxruntime is not installed, which runs the model: bash launch/install.sh ffcv,embedded,lite0,masks"
        ) from None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = int((os.environ.get("OMP_NUM_THREADS") or "0").split(",")[0])
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime's own kinds have no common one
        raise DataError(f"{path}: not a readable ONNX model ({_first_line(error)})") from None
    name, side = _input_of(session, path)
    return lambda pixels: _map_of(session.run(None, {name: _prepared(pixels, side)})[0], path)


def _input_of(session: Any, path: Path) -> tuple[str, tuple[int, int]]:
    """The input's name, height and width."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    count = shape[0] if len(shape) == 4 else None
    if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or (isinstance(count, int) and count != 1):
        told = "; ".join(f"{one.name} {one.shape}" for one in inputs)
        raise DataError(f"{path}: takes {told}; a segmentation model takes one input, 1 or N × 3 × height × width")
    if inputs[0].type != "tensor(float)":
        raise DataError(f"{path}: takes {inputs[0].type}; export it in 32-bit floating point")
    height, width = (side if isinstance(side, int) else SIDE for side in shape[2:])
    return inputs[0].name, (height, width)


def _prepared(pixels: Pixels, side: tuple[int, int]) -> NDArray[np.float32]:
    height, width = side
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    prepared: NDArray[np.float32] = ((resized / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(prepared, np.float32)


def _map_of(output: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    shape = output.shape
    if len(shape) != 4 or shape[:2] != (1, 1) or not np.isfinite(output).all():
        raise DataError(
            f"{path}: its first output is {shape}, a segmentation model's is 1 × 1 × height × width, finite"
        )
    shares = output[0, 0].astype(np.float64)
    if shares.min() < -1e-3 or shares.max() > 1 + 1e-3:
        shares = 1 / (1 + np.exp(-shares.clip(-50, 50)))
    found: NDArray[np.float32] = shares.clip(0, 1).astype(np.float32)
    return found


def _places(samples: Sequence[Sample], folder: Path) -> list[Path]:
    """Where each sample's mask lies, as `catalogue.attach_masks` looks for it. Raises DataError where two share one."""
    found: dict[Path, Path] = {}
    for sample in samples:
        place = folder / sample.domain / sample.label / f"{sample.path.stem}.png"
        if place in found:
            raise DataError(
                f"{sample.path}: and {found[place].name} would share the mask {place}; rename one of the two"
            )
        found[place] = sample.path
    return list(found)


def _claim(folder: Path, model: Path) -> None:
    """Says beside the masks what they are made from. Raises DataError where that was something else."""
    told = {"model": model.name, "sha256": file_sha256(model)}
    kept = read_json(folder / RECORD)
    remedy = "choose another folder (benchmark.masks), or delete this one"
    if kept and kept.get("sha256") != told["sha256"]:
        digits = str(kept.get("sha256"))[:12]
        raise DataError(f"{folder}: holds masks of {kept.get('model')} ({digits}…), not of {model.name}; {remedy}")
    if not kept and any(folder.glob("**/*.png")):
        raise DataError(f"{folder}: holds masks, and no {RECORD} that says what made them; {remedy}")
    if not kept:
        write_text(folder / RECORD, json.dumps(told, indent=1) + "\n")


def _is_due(sample: Sample, place: Path) -> bool:
    return not place.is_file() or place.stat().st_mtime_ns < sample.path.stat().st_mtime_ns


def _write_mask(path: Path, place: Path, segment: Segment) -> None:
    try:
        picture = to_rgb(upright(open_picture(path.read_bytes())))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable picture ({_first_line(error)}); mend it or take it out") from None
    mask = Image.fromarray(segment(np.asarray(picture))).resize(picture.size, Image.Resampling.BILINEAR)
    values = np.rint(np.asarray(mask) * 255).clip(0, 255).astype(np.uint8)
    write_whole(place, lambda file: Image.fromarray(values).save(file, "PNG"))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
