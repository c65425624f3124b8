"""Betons: a benchmark's images in one FFCV file, and the manifest beside it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from align_dist.data.catalogue import Catalogue, Sample
from align_dist.data.duplicates import MAX_DISTANCE, duplicate_groups
from align_dist.data.manifest import (
    REMEDY,
    VERSION,
    ImageField,
    Manifest,
    manifest_path,
    read_manifest,
    write_manifest,
)
from align_dist.data.scan import Scanned, scan
from align_dist.errors import DataError, StorageError
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
    workers: int | None = None,
) -> Manifest:
    """Writes `destination` (`<name>.beton`) and `<name>.beton.json`, replacing both when complete.

    max_side: longer side in pixels, at most. quality: of the JPEG, 1 to 100. Fields: image, label,
    domain, sample (the id), and mask when the catalogue has masks. Raises DataError for unreadable
    pictures unless they are to be skipped, StorageError for a full or unwritable disk.
    """
    count = available_cores() if workers is None else max(workers, 1)
    scanned = scan(catalogue.samples, max_side, count)
    samples, facts, skipped = _readable(catalogue, scanned, on_unreadable)
    draft = _describe(catalogue, samples, facts, ImageField(mode, max_side, quality), skipped)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _check_space(destination.parent, facts, mode, draft.has_masks)
        size, digest = _write_and_rename(draft, samples, facts, destination, count)
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


def verify_beton(path: Path, quick: bool = False) -> Manifest:
    """The manifest of an intact beton; DataError for a missing, truncated or changed one.

    quick: compare the size only, which costs nothing; else read the whole file and compare SHA-256.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such beton; make it with `align-dist data prepare CONFIG`")
    manifest = read_manifest(manifest_path(path))
    size = path.stat().st_size
    if size != manifest.beton_bytes:
        problem = "truncated" if size < manifest.beton_bytes else "changed"
        raise DataError(f"{path}: {problem}: {size:,} bytes, expected {manifest.beton_bytes:,}; {REMEDY}")
    if not quick and file_sha256(path) != manifest.beton_sha256:
        raise DataError(f"{path}: its bytes changed since it was written; {REMEDY}")
    return manifest


def file_sha256(path: Path) -> str:
    """SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def groups_within_domains(samples: Sequence[Sample], facts: Sequence[Scanned]) -> NDArray[np.int64]:
    """Duplicate group of each sample: the smallest id in it, (N,). Groups never span domains.

    Every domain is split by itself and a target domain is tested whole, so joining copies across
    domains would protect nothing and make one domain's split depend on the others.
    """
    groups = np.zeros(len(samples), dtype=np.int64)
    names = np.array([sample.domain for sample in samples])
    for domain in np.unique(names):
        ids = np.flatnonzero(names == domain)
        members = ids.tolist()
        local = duplicate_groups(
            [facts[index].digest for index in members],
            np.stack([facts[index].difference for index in members]),
            [samples[index].sequence for index in members],
            MAX_DISTANCE,
        )
        groups[ids] = ids[local]
    return groups


def _readable(
    catalogue: Catalogue, scanned: Sequence[Scanned], on_unreadable: str
) -> tuple[list[Sample], list[Scanned], tuple[str, ...]]:
    pairs = list(zip(catalogue.samples, scanned, strict=True))
    bad = [(sample, fact) for sample, fact in pairs if fact.trouble is not None]
    if bad and (on_unreadable == "fail" or len(bad) == len(pairs)):
        named = ", ".join(f"{sample.path} ({fact.trouble})" for sample, fact in bad[:3])
        more = f" and {len(bad) - 3:,} more" if len(bad) > 3 else ""
        raise DataError(
            f"{len(bad):,} of {len(pairs):,} pictures are unreadable: {named}{more}; "
            "replace them, or leave them out with benchmark.on_unreadable=skip"
        )
    good = [(sample, fact) for sample, fact in pairs if fact.trouble is None]
    if not good:
        raise DataError(f"{catalogue.root}: no pictures in '{catalogue.benchmark}'; check the folder")
    skipped = tuple(_relative(sample.path, catalogue.root) for sample, _ in bad)
    return [sample for sample, _ in good], [fact for _, fact in good], skipped


def _describe(
    catalogue: Catalogue,
    samples: Sequence[Sample],
    facts: Sequence[Scanned],
    image_field: ImageField,
    skipped: tuple[str, ...],
) -> Manifest:
    """The manifest of a beton that is still to be written."""
    return Manifest(
        version=VERSION,
        benchmark=catalogue.benchmark,
        classes=catalogue.classes,
        domains=catalogue.domains,
        image_field=image_field,
        has_masks=all(sample.mask is not None for sample in samples),
        beton_bytes=0,
        beton_sha256="",
        paths=tuple(_relative(sample.path, catalogue.root) for sample in samples),
        hashes=tuple(fact.digest for fact in facts),
        labels=tuple(catalogue.classes.index(sample.label) for sample in samples),
        domain_indices=tuple(catalogue.domains.index(sample.domain) for sample in samples),
        groups=tuple(groups_within_domains(samples, facts).tolist()),
        skipped=skipped,
    )


def _check_space(folder: Path, facts: Sequence[Scanned], mode: str, has_masks: bool) -> None:
    per_pixel = (3.0 if mode == "raw" else _JPEG_BYTES_PER_PIXEL) + (3.0 if has_masks else 0.0)
    needed = int(per_pixel * sum(fact.pixels for fact in facts))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder}: {free / 1e9:.2f} GB free, the beton needs about {needed / 1e9:.2f} GB; "
            "free space, choose another folder with benchmark.betons, or lower benchmark.max_side"
        )


def _write_and_rename(
    draft: Manifest, samples: Sequence[Sample], facts: Sequence[Scanned], destination: Path, workers: int
) -> tuple[int, str]:
    """Size in bytes and SHA-256 of the beton, which is in place, without a manifest."""
    from align_dist.data.writing import Pictures, exclusive_partial, write_pictures

    pictures = Pictures(samples, facts, draft.labels, draft.domain_indices, draft.image_field.max_side)
    with exclusive_partial(destination) as partial:
        write_pictures(pictures, partial, draft.image_field, workers)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        size, digest = partial.stat().st_size, file_sha256(partial)
        # Never a new beton under an old manifest, even if we are killed between the two renames.
        manifest_path(destination).unlink(missing_ok=True)
        os.replace(partial, destination)
    return size, digest


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
