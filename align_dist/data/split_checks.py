"""Checks of a split: warnings of one line, or an error where no metric would be meaningful."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from align_dist.data.checks import check_classes_differ
from align_dist.data.manifest import Manifest
from align_dist.data.splits import Ids, Split
from align_dist.errors import DataError

MOST_POINTS = 0.03  # largest deviation of a part from its fraction without a warning


def check_split(manifest: Manifest, split: Split) -> None:
    """Raise DataError for a split on which no metric would be meaningful."""
    check_classes_differ(manifest.classes)
    labels = np.array(manifest.labels)
    trained = set(labels[split.train].tolist())
    if len(trained) < 2:
        only = manifest.classes[trained.pop()]
        raise DataError(f"the training images are all of class '{only}'; choose other source domains or add images")
    for domain, ids in split.tests.items():
        if not trained & set(labels[ids].tolist()):
            known = ", ".join(manifest.classes[label] for label in sorted(trained))
            raise DataError(
                f"domain '{domain}': none of its {len(ids):,} test images has a class of training images ({known}); "
                "check the names of its class folders"
            )


def split_warnings(manifest: Manifest, split: Split, validation_fraction: float, test_fraction: float) -> list[str]:
    """Warnings about a split: missing classes, copies in two parts, parts far from their fraction."""
    return [
        *_missed_fractions(manifest, split, validation_fraction, test_fraction),
        *_classes_out_of_place(manifest, split),
        *_leaks(manifest, split),
    ]


def fixed_warnings(manifest: Manifest, split: Split) -> list[str]:
    """Warnings about the benchmark's own split, which may separate near-duplicates."""
    return [*_classes_out_of_place(manifest, split), *_leaks(manifest, split), *_cut_bundles(manifest, split)]


def _cut_bundles(manifest: Manifest, split: Split) -> list[str]:
    """Warnings about test images that share a bundle with training or validation images."""
    bundles = np.array(manifest.bundles)
    used = np.concatenate([split.train, split.validation])
    lines = []
    for domain, ids in split.tests.items():
        duplicates = ids[np.isin(bundles[ids], bundles[used])]
        if len(duplicates):
            other = int(used[bundles[used] == bundles[duplicates[0]]][0])
            lines.append(
                f"{len(duplicates):,} of {len(ids):,} test images of domain '{domain}' are near-duplicates of "
                "training or validation images, or from one burst with them "
                f"(first: {manifest.paths[duplicates[0]]} and {manifest.paths[other]})"
            )
    return lines


def _missed_fractions(manifest: Manifest, split: Split, validation: float, test: float) -> list[str]:
    """Warnings about parts far from their fraction, one line per domain."""
    domain_of = np.array(manifest.domain_indices)
    lines = []
    for index in np.unique(domain_of[split.train]).tolist():
        total = int((domain_of == index).sum())
        trained, validated = (int((domain_of[ids] == index).sum()) for ids in (split.train, split.validation))
        counts = [trained, validated, total - trained - validated]
        lines += _fraction_warning(manifest.domains[index], counts, [1 - validation - test, validation, test], total)
    for domain in _targets(manifest, split):
        total = len(split.tests[domain])
        count = len(split.target_validation.get(domain, ()))
        lines += _fraction_warning(
            domain, [total - count, count], [1 - validation, validation], total, "oracle selection"
        )
    return lines


def _fraction_warning(
    domain: str, counts: list[int], fractions: list[float], total: int, purpose: str = ""
) -> list[str]:
    if max(abs(count / total - share) for count, share in zip(counts, fractions, strict=True)) <= MOST_POINTS:
        return []
    if purpose:
        return [f"domain '{domain}': {counts[1]:,} of {total:,} images ({counts[1] / total:.1%}) for {purpose}, "
                f"expected {fractions[1]:.1%}"]  # fmt: skip
    images, shares, expected = (
        "/".join(texts)
        for texts in (
            map(str, counts),
            [f"{count / total:.1%}" for count in counts],
            [f"{share:.1%}" for share in fractions],
        )
    )
    return [
        f"domain '{domain}': cut into {images} images ({shares}) for training/validation/test, expected {expected}: "
        "its bundles are too large or too few (protocol.keep_together)"
    ]


def _classes_out_of_place(manifest: Manifest, split: Split) -> list[str]:
    labels = np.array(manifest.labels)
    trained, validated = (set(labels[ids].tolist()) for ids in (split.train, split.validation))
    lines = _class_warning(
        manifest, trained - validated, "in training but in no validation image, so that selection ignores them"
    )
    targets = _targets(manifest, split)
    if not targets:
        return lines
    tested = np.concatenate([split.tests[domain] for domain in targets])
    lines += _class_warning(manifest, trained - set(labels[tested].tolist()), "in training but in no target domain")
    lost = tested[~np.isin(labels[tested], sorted(trained))]
    if len(lost):
        first = int(lost[0])
        name, domain = manifest.classes[labels[first]], manifest.domains[manifest.domain_indices[first]]
        lines.append(
            f"{len(lost):,} of {len(tested):,} target images have classes without training images, and can "
            f"only be wrong ({len(set(labels[lost].tolist())):,} classes; first: '{name}' in domain '{domain}')"
        )
    return lines


def _class_warning(manifest: Manifest, labels: Iterable[int], message: str) -> list[str]:
    indices = sorted(labels)
    return [f"{len(indices):,} classes: {message} (first: '{manifest.classes[indices[0]]}')"] if indices else []


def copies_in_other_benchmark(manifest: Manifest, split: Split, other: Manifest) -> list[str]:
    """A warning where another benchmark, used for testing, holds copies of training or validation images."""
    used, all_ids = np.concatenate([split.train, split.validation]), np.arange(len(other))
    message = f"test images of {other.benchmark} are byte copies of training or validation images"
    return _copy_warning(other, all_ids, manifest, used, message)


def _leaks(manifest: Manifest, split: Split) -> list[str]:
    """Warnings about byte copies of training images in validation, and of training or validation images in tests."""
    used = np.concatenate([split.train, split.validation])
    message = "validation images are byte copies of training images"
    lines = _copy_warning(manifest, split.validation, manifest, split.train, message)
    for domain, ids in split.tests.items():
        message = f"test images of domain '{domain}' are byte copies of training or validation images"
        lines += _copy_warning(manifest, ids, manifest, used, message)
    return lines


def _copy_warning(manifest: Manifest, ids: Ids, originals_manifest: Manifest, of_ids: Ids, message: str) -> list[str]:
    originals = {originals_manifest.hashes[index]: index for index in reversed(of_ids.tolist())}
    copies = [index for index in ids.tolist() if manifest.hashes[index] in originals]
    if not copies:
        return []
    first = f"{manifest.paths[copies[0]]} = {originals_manifest.paths[originals[manifest.hashes[copies[0]]]]}"
    return [f"{len(copies):,} of {len(ids):,} {message} (first: {first})"]


def _targets(manifest: Manifest, split: Split) -> list[str]:
    sources = set(np.array(manifest.domain_indices)[split.train].tolist())
    return [domain for domain in split.tests if manifest.domains.index(domain) not in sources]
