"""Manifests made by hand."""

from __future__ import annotations

from typing import Any

from align_dist.data.manifest import VERSION, ImageField, Manifest

DOMAINS = ("Caltech101", "LabelMe", "SUN09")


def make_manifest(labels: Any, domain_indices: Any, bundles: Any = None) -> Manifest:
    """One sample for each label; each of its own bytes and its own bundle unless told otherwise."""
    count = len(labels)
    return Manifest(
        version=VERSION,
        benchmark="folders",
        classes=tuple(f"class{index}" for index in range(int(max(labels)) + 1)),
        domains=DOMAINS[: int(max(domain_indices)) + 1],
        image_field=ImageField("raw", 32, 90),
        has_masks=False,
        beton_bytes=0,
        beton_sha256="",
        paths=tuple(f"{index}.png" for index in range(count)),
        hashes=tuple(str(index) for index in range(count)),
        labels=tuple(int(value) for value in labels),
        domain_indices=tuple(int(value) for value in domain_indices),
        bundles=tuple(int(value) for value in (range(count) if bundles is None else bundles)),
        skipped=(),
    )
