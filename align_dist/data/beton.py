"""Betons: a benchmark's images in one FFCV file, and the manifest beside it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from align_dist.data.bundles import bundles_within_domains
from align_dist.data.catalogue import Catalogue, Sample, count_by_reason, relative_name
from align_dist.data.hashing import Stamp, digests_of, stamp_of
from align_dist.data.manifest import (
    REMEDY,
    VERSION,
    ImageField,
    Manifest,
    manifest_path,
    no_permission,
    read_manifest,
    write_manifest,
)
from align_dist.data.mask_reading import mask_reading, reading_notes
from align_dist.data.mask_values import MaskValues
from align_dist.data.masks import MaskReading
from align_dist.data.scan import ImageScan, scan
from align_dist.errors import DataError, StorageError
from align_dist.files import file_sha256
from align_dist.machine import available_cores

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
# JPEG at quality 90 of photographs: 0.3 to 0.6 bytes a pixel.
_JPEG_BYTES_PER_PIXEL = 0.5


def prepare_beton(
    catalogue: Catalogue,
    destination: Path,
    *,
    max_side: int,
    mode: Literal["jpg", "raw"],
    quality: int = 90,
    on_unreadable: Literal["fail", "skip"] = "fail",
    mask_values: MaskValues = "auto",
    workers: int | None = None,
) -> Manifest:
    """Write `destination` (`<name>.beton`) and `<name>.beton.json`, replacing both when complete.

    max_side: largest longer side in pixels. quality: of the JPEG, 1 to 100. Fields: image, label, domain, sample (the
    id), and group and mask where the catalogue has them. mask_values: see mask_values.py. Raises DataError for
    unreadable images unless on_unreadable is `skip`, and for files that change meanwhile; StorageError for a full or
    unwritable disk.
    """
    count = available_cores() if workers is None else max(workers, 1)
    stamps = _stamps_of(catalogue.samples)
    scanned = scan(catalogue.samples, max_side, count)
    samples, facts, skipped = _readable(catalogue, scanned, on_unreadable)
    reading = mask_reading(samples, facts, mask_values)
    draft = _describe(catalogue, samples, facts, ImageField(mode, max_side, quality), skipped, stamps)
    draft = replace(draft, mask_values=mask_values, notes=reading_notes(draft.paths, facts, reading))
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _check_space(destination.parent, facts, mode, draft.has_masks)
        size, digest = _write_and_rename(draft, samples, facts, reading, destination, count, stamps)
        manifest = replace(draft, beton_bytes=size, beton_sha256=digest)
        write_manifest(manifest, manifest_path(destination))
    except OSError as error:
        if error.errno in _FULL | _UNWRITABLE:
            remedy = "free space" if error.errno in _FULL else "make the folder writable"
            raise StorageError(
                f"{destination}: cannot be written ({error.strerror}); {remedy} or choose another folder"
            ) from None
        raise
    return manifest


def is_written(path: Path) -> bool:
    """Return whether a beton exists, complete or not. Raises StorageError without permission to look."""
    try:
        return path.is_file()
    except PermissionError as error:
        raise no_permission(path, error) from None


def verify_beton(path: Path, quick: bool = False) -> Manifest:
    """The manifest of an intact beton. Raises DataError for a missing, truncated or changed beton, and StorageError
    without permission to read.

    quick: compare only the size, which costs nothing; else read the whole file and compare SHA-256.
    """
    if not is_written(path):
        raise DataError(f"{path}: no such beton; make it with `align-dist data prepare CONFIG`")
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
    except PermissionError as error:
        raise no_permission(path, error) from None
    manifest = read_manifest(manifest_path(path))
    if size != manifest.beton_bytes:
        problem = "truncated" if size < manifest.beton_bytes else "changed"
        raise DataError(f"{path}: {problem}: {size:,} bytes, expected {manifest.beton_bytes:,}; {REMEDY}")
    if not quick and file_sha256(path) != manifest.beton_sha256:
        raise DataError(f"{path}: the content has changed since it was written; {REMEDY}")
    return manifest


def _readable(
    catalogue: Catalogue, scanned: Sequence[ImageScan], on_unreadable: str
) -> tuple[list[Sample], list[ImageScan], list[Sample]]:
    """The readable samples, their scans, and the unreadable samples."""
    pairs = list(zip(catalogue.samples, scanned, strict=True))
    failures = [(sample, fact) for sample, fact in pairs if fact.error is not None]
    if failures and (on_unreadable == "fail" or len(failures) == len(pairs)):
        examples = ", ".join(f"{sample.path} ({fact.error})" for sample, fact in failures[:3])
        remainder = f" and {len(failures) - 3:,} more" if len(failures) > 3 else ""
        raise DataError(
            f"{len(failures):,} of {len(pairs):,} images are unreadable: {examples}{remainder}; "
            "replace these files, or skip them with benchmark.on_unreadable=skip"
        )
    readable = [(sample, fact) for sample, fact in pairs if fact.error is None]
    if not readable:
        raise DataError(f"{catalogue.root}: no images in '{catalogue.benchmark}'; check the folder")
    return [sample for sample, _ in readable], [fact for _, fact in readable], [sample for sample, _ in failures]


def _describe(
    catalogue: Catalogue,
    samples: Sequence[Sample],
    facts: Sequence[ImageScan],
    image_field: ImageField,
    skipped: Sequence[Sample],
    stamps: Mapping[Path, Stamp],
) -> Manifest:
    """The manifest of a beton before the beton is written."""
    masks = [sample.mask for sample in samples if sample.mask is not None]
    groups = catalogue.groups
    return Manifest(
        version=VERSION,
        benchmark=catalogue.benchmark,
        classes=catalogue.classes,
        domains=catalogue.domains,
        image_field=image_field,
        has_masks=len(masks) == len(samples),
        beton_bytes=0,
        beton_sha256="",
        paths=tuple(relative_name(sample.path, catalogue.root) for sample in samples),
        hashes=tuple(fact.digest for fact in facts),
        labels=tuple(catalogue.classes.index(sample.label) for sample in samples),
        domain_indices=tuple(catalogue.domains.index(sample.domain) for sample in samples),
        bundles=tuple(bundles_within_domains(samples, facts).tolist()),
        group_names=groups,
        group_indices=tuple(groups.index(sample.group) for sample in samples if sample.group is not None),
        parts=tuple(sample.part for sample in samples if sample.part is not None),
        agreement=catalogue.agreement,
        skipped=tuple(relative_name(sample.path, catalogue.root) for sample in skipped),
        skipped_hashes=tuple(digests_with_masks(skipped)),
        stamps=tuple(stamps[sample.path] for sample in samples),
        sequences=tuple(sample.sequence for sample in samples),
        mask_hashes=tuple(digests_of(masks, "hashing masks")),
        mask_stamps=tuple(stamps[mask] for mask in masks),
        passed_over=(
            *catalogue.passed_over,
            *count_by_reason(catalogue.root, ((sample.path, "unreadable") for sample in skipped)),
        ),
    )


def digests_with_masks(samples: Sequence[Sample]) -> list[str]:
    """SHA-256 of each image, followed by the SHA-256 of the image's mask if there is one."""
    pictures = digests_of([sample.path for sample in samples])
    masks = iter(digests_of([sample.mask for sample in samples if sample.mask is not None], "hashing masks"))
    return [
        digest if sample.mask is None else digest + next(masks)
        for sample, digest in zip(samples, pictures, strict=True)
    ]


def _stamps_of(samples: Sequence[Sample]) -> dict[Path, Stamp]:
    """The stamp of every image and every mask."""
    files = {file for sample in samples for file in (sample.path, sample.mask) if file is not None}
    return {file: stamp_of(file) for file in files}


def _check_unchanged(samples: Sequence[Sample], stamps: Mapping[Path, Stamp]) -> None:
    """Raise DataError where an image or a mask has changed since its stamp was taken."""
    changed = sorted(file for file, stamp in _stamps_of(samples).items() if stamp != stamps[file])
    if changed:
        raise DataError(f"{changed[0]}: changed while the beton was being written ({len(changed):,} files); run again")


def _check_space(folder: Path, facts: Sequence[ImageScan], mode: str, has_masks: bool) -> None:
    per_pixel = (3.0 if mode == "raw" else _JPEG_BYTES_PER_PIXEL) + (3.0 if has_masks else 0.0)
    required = int(per_pixel * sum(fact.pixels for fact in facts))
    free = shutil.disk_usage(folder).free
    if free < required:
        raise StorageError(
            f"{folder}: {free / 1e9:.2f} GB free, the beton needs about {required / 1e9:.2f} GB; "
            "free space, choose another folder with benchmark.betons, or lower benchmark.max_side"
        )


def _write_and_rename(
    draft: Manifest,
    samples: Sequence[Sample],
    facts: Sequence[ImageScan],
    reading: MaskReading | None,
    destination: Path,
    workers: int,
    stamps: Mapping[Path, Stamp],
) -> tuple[int, str]:
    """Write the beton without its manifest. Returns its size in bytes and its SHA-256."""
    from align_dist.data.writing import SampleDataset, locked_partial, write_samples

    columns = {"label": draft.labels, "domain": draft.domain_indices, "sample": range(len(draft))}
    groups = {"group": draft.group_indices} if draft.group_indices else {}
    pictures = SampleDataset(samples, facts, {**columns, **groups}, draft.image_field.max_side, reading)
    with locked_partial(destination) as partial:
        write_samples(pictures, partial, draft.image_field, workers)
        _check_unchanged(samples, stamps)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        size, digest = partial.stat().st_size, file_sha256(partial)
        # Never a new beton beside an old manifest, even after a kill between the two renames.
        manifest_path(destination).unlink(missing_ok=True)
        os.replace(partial, destination)
    return size, digest
