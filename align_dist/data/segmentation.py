"""`align-dist data masks`: masks of a benchmark's images by a segmentation model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from align_dist.config.sections import BenchmarkConfig
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.catalogue import Sample, mask_paths
from align_dist.data.pixels import open_image, reason_of, to_rgb, upright
from align_dist.data.progress import progress
from align_dist.data.segmenters import Segment, load_model
from align_dist.errors import ConfigError, DataError
from align_dist.files import file_sha256, read_json, write_atomically, write_text

RECORD = "made_from.json"


def write_masks(benchmark: BenchmarkConfig, model: Path) -> int:
    """Write the mask `<masks>/<domain>/<class>/<stem>.png` of each image, at the image's size, 0 to 255.

    A mask that is no older than its image is kept, so that the same command resumes. Returns the number of masks
    written. Raises ConfigError, DataError and MachineError in one line; masks of two models are never mixed.
    """
    folder = benchmark.masks
    if folder is None:
        raise ConfigError("benchmark.masks: not set; set the folder for the masks, such as masks/u2net")
    segment = load_model(model)
    samples = read_benchmark(
        benchmark.name, benchmark.root, metadata=benchmark.metadata, agreement=benchmark.agreement
    ).samples
    paths = mask_paths(samples, folder)
    _claim(folder, model)
    missing = [
        (sample.path, mask_path) for sample, mask_path in zip(samples, paths, strict=True) if _is_due(sample, mask_path)
    ]
    skipped = list[str]()
    with progress("masks", len(missing), "images") as report:
        for count, (path, mask_path) in enumerate(missing, 1):
            try:
                picture = _read(path)
            except DataError as error:
                if benchmark.on_unreadable == "fail":
                    raise
                skipped.append(str(error))
            else:
                _write_mask(mask_path, segment, picture)
            report(count)
    for line in skipped:
        print(f"skipped: {line}")
    written, existing = len(missing) - len(skipped), len(paths) - len(missing)
    print(f"{folder}: {written:,} masks written, {existing:,} kept; benchmark.mask_values=soft")
    return written


def _claim(folder: Path, model: Path) -> None:
    """Record the model beside the masks. Raises DataError for a folder with masks of another model."""
    record = {"model": model.name, "sha256": file_sha256(model)}
    previous = read_json(folder / RECORD)
    remedy = "choose another folder (benchmark.masks), or delete this folder"
    if previous and previous.get("sha256") != record["sha256"]:
        digits = str(previous.get("sha256"))[:12]
        raise DataError(f"{folder}: holds masks of {previous.get('model')} ({digits}…), not of {model.name}; {remedy}")
    if not previous and any(folder.glob("**/*.png")):
        raise DataError(f"{folder}: holds masks without a {RECORD} that names their model; {remedy}")
    if not previous:
        write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")


def _is_due(sample: Sample, mask_path: Path) -> bool:
    return not mask_path.is_file() or mask_path.stat().st_mtime_ns < sample.path.stat().st_mtime_ns


def _read(path: Path) -> Image.Image:
    try:
        return to_rgb(upright(open_image(path.read_bytes())))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: not a readable image ({reason_of(error)}); repair it, or set benchmark.on_unreadable=skip"
        ) from None


def _write_mask(path: Path, segment: Segment, picture: Image.Image) -> None:
    mask = Image.fromarray(segment(np.asarray(picture))).resize(picture.size, Image.Resampling.BILINEAR)
    values = np.rint(np.asarray(mask) * 255).clip(0, 255).astype(np.uint8)
    write_atomically(path, lambda file: Image.fromarray(values).save(file, "PNG"))
