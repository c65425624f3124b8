"""Benchmarks that are odd whatever is trained on them: a line of warning each, or a refusal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from align_dist.data.manifest import Manifest
from align_dist.errors import DataError


def check_classes_differ(classes: Sequence[str]) -> None:
    """Raises DataError for a benchmark of one class."""
    if len(classes) < 2:
        raise DataError(f"a single class, '{classes[0]}': every answer is right; add class folders, one for each class")


def benchmark_warnings(manifest: Manifest) -> list[str]:
    """What is odd about a benchmark whatever is trained on it."""
    return [
        *_alike("classes", manifest.classes),
        *_alike("domains", manifest.domains),
        *_incomplete(manifest),
        *_shared_bytes(manifest, manifest.labels, "also lie in another class"),
        *_shared_bytes(manifest, manifest.domain_indices, "also lie in another domain"),
    ]


def _shared_bytes(manifest: Manifest, places: Sequence[int], what: str) -> list[str]:
    """Images whose bytes are in more than one place (class or domain)."""
    first: dict[str, int] = {}
    pairs: dict[str, tuple[int, int]] = {}
    for index, digest in enumerate(manifest.hashes):
        original = first.setdefault(digest, index)
        if places[original] != places[index]:
            pairs.setdefault(digest, (original, index))
    if not pairs:
        return []
    count = sum(digest in pairs for digest in manifest.hashes)
    named = " = ".join(manifest.paths[index] for index in next(iter(pairs.values())))
    return [f"{count:,} images {what}, byte for byte (first: {named})"]


def _alike(kind: str, names: Sequence[str]) -> list[str]:
    """Names that a reader would take for one."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold()
        spellings.setdefault("".join(sign for sign in folded if sign not in " -_"), []).append(name)
    found = [spelling for spelling in spellings.values() if len(spelling) > 1]
    if not found:
        return []
    named = " and ".join(f"'{name}'" for name in found[0])
    return [f"{sum(map(len, found)):,} {kind} differ from another one in spelling only (first: {named})"]


def _incomplete(manifest: Manifest) -> list[str]:
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
    named = f"'{manifest.classes[absent[0][0]]}' in '{manifest.domains[absent[0][1]]}'"
    return [f"{count:,} of {len(manifest.classes):,} classes are missing in some domain (first: {named})"]
