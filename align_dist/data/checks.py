"""Checks of a benchmark that do not depend on the split: warnings of one line, or an error."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from align_dist.data.manifest import Manifest
from align_dist.errors import DataError


def check_classes_differ(classes: Sequence[str]) -> None:
    """Raise DataError for a benchmark with a single class."""
    if len(classes) < 2:
        raise DataError(
            f"a single class, '{classes[0]}': every prediction is right; add a folder for each further class"
        )


def benchmark_warnings(manifest: Manifest) -> list[str]:
    """Warnings about a benchmark, whatever the split, one line each."""
    return [
        *_similar_names("classes", manifest.classes),
        *_similar_names("domains", manifest.domains),
        *_missing_classes(manifest),
        *_shared_bytes(manifest, manifest.labels, "are also in another class"),
        *_shared_bytes(manifest, manifest.domain_indices, "are also in another domain"),
    ]


def _shared_bytes(manifest: Manifest, places: Sequence[int], message: str) -> list[str]:
    """A warning about images with equal bytes in more than one class or domain. places: class or domain by sample."""
    first: dict[str, int] = {}
    pairs: dict[str, tuple[int, int]] = {}
    for index, digest in enumerate(manifest.hashes):
        original = first.setdefault(digest, index)
        if places[original] != places[index]:
            pairs.setdefault(digest, (original, index))
    if not pairs:
        return []
    count = sum(digest in pairs for digest in manifest.hashes)
    example = " = ".join(manifest.paths[index] for index in next(iter(pairs.values())))
    return [f"{count:,} images {message}, byte for byte (first: {example})"]


def _similar_names(kind: str, names: Sequence[str]) -> list[str]:
    """A warning about names that differ only in spelling."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold()
        spellings.setdefault("".join(sign for sign in folded if sign not in " -_"), []).append(name)
    duplicates = [spelling for spelling in spellings.values() if len(spelling) > 1]
    if not duplicates:
        return []
    example = " and ".join(f"'{name}'" for name in duplicates[0])
    return [f"{sum(map(len, duplicates)):,} {kind} differ from another one only in spelling (first: {example})"]


def _missing_classes(manifest: Manifest) -> list[str]:
    pairs = set(zip(manifest.labels, manifest.domain_indices, strict=True))
    absent = [
        (label, domain)
        for label in range(len(manifest.classes))
        for domain in range(len(manifest.domains))
        if (label, domain) not in pairs
    ]
    if not absent:
        return []
    count = len({label for label, _ in absent})
    example = f"'{manifest.classes[absent[0][0]]}' in '{manifest.domains[absent[0][1]]}'"
    return [f"{count:,} of {len(manifest.classes):,} classes are missing in some domain (first: {example})"]
