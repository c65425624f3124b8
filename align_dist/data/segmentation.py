"""Masks by a segmentation model: what `align-dist data masks` does, once for all of a benchmark's pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from align_dist.config.sections import BenchmarkConfig
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.catalogue import Sample
from align_dist.data.contents import file_sha256
from align_dist.data.pixels import open_picture, to_rgb, upright
from align_dist.data.progress import progress
from align_dist.data.segmenters import Segment, load_model
from align_dist.errors import ConfigError, DataError, first_line
from align_dist.files import read_json, write_text, write_whole

RECORD = "made_from.json"


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
    skipped = list[str]()
    with progress("masks", len(missing), "pictures") as tell:
        for done, (path, place) in enumerate(missing, 1):
            try:
                picture = _read(path)
            except DataError as error:
                if benchmark.on_unreadable == "fail":
                    raise
                skipped.append(str(error))
            else:
                _write_mask(place, segment, picture)
            tell(done)
    for line in skipped:
        print(f"skipped: {line}")
    written, kept = len(missing) - len(skipped), len(places) - len(missing)
    print(f"{folder}: {written:,} masks written, {kept:,} kept; benchmark.mask_values=soft")
    return written


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


def _read(path: Path) -> Image.Image:
    try:
        return to_rgb(upright(open_picture(path.read_bytes())))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: not a readable picture ({first_line(error)}); mend it, or write benchmark.on_unreadable=skip"
        ) from None


def _write_mask(place: Path, segment: Segment, picture: Image.Image) -> None:
    mask = Image.fromarray(segment(np.asarray(picture))).resize(picture.size, Image.Resampling.BILINEAR)
    values = np.rint(np.asarray(mask) * 255).clip(0, 255).astype(np.uint8)
    write_whole(place, lambda file: Image.fromarray(values).save(file, "PNG"))
