"""Splits that are impossible or that leak: a line of warning each, or a refusal where no number would mean anything."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from align_dist.data.checks import check_classes_differ
from align_dist.data.manifest import Manifest
from align_dist.data.splits import Ids, Split
from align_dist.errors import DataError

MOST_POINTS = 0.03  # by how much a part may miss the fraction asked for before somebody is told


def check_task(manifest: Manifest, split: Split) -> None:
    """Raises DataError for a split of which no measure would mean anything."""
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
                f"domain '{domain}': none of its {len(ids):,} test images is of a class that is trained ({known}); "
                "check the names of its class folders"
            )


def task_warnings(manifest: Manifest, split: Split, validation_fraction: float, test_fraction: float) -> list[str]:
    """What is odd about a split: classes out of place, copies on both sides, parts that miss their fraction."""
    return [
        *_missed_fractions(manifest, split, validation_fraction, test_fraction),
        *_classes_out_of_place(manifest, split),
        *_leaks(manifest, split),
    ]


def fixed_warnings(manifest: Manifest, split: Split) -> list[str]:
    """What is odd about a split that the benchmark brings: nothing is moved, so look-alikes may be on both sides."""
    return [*_classes_out_of_place(manifest, split), *_leaks(manifest, split), *_cut_bundles(manifest, split)]


def _cut_bundles(manifest: Manifest, split: Split) -> list[str]:
    """Copies, near-copies and frames of one burst of images that train or select, among those that test."""
    bundles = np.array(manifest.bundles)
    used = np.concatenate([split.train, split.validation])
    lines = []
    for domain, ids in split.tests.items():
        found = ids[np.isin(bundles[ids], bundles[used])]
        if len(found):
            other = int(used[bundles[used] == bundles[found[0]]][0])
            lines.append(
                f"{len(found):,} of {len(ids):,} test images of domain '{domain}' look like training or validation "
                f"images, or are of one burst with them (first: {manifest.paths[found[0]]} and {manifest.paths[other]})"
            )
    return lines


def _missed_fractions(manifest: Manifest, split: Split, validation: float, test: float) -> list[str]:
    """A line for each domain."""
    domain_of = np.array(manifest.domain_indices)
    lines = []
    for index in np.unique(domain_of[split.train]).tolist():
        total = int((domain_of == index).sum())
        trained, validated = (int((domain_of[ids] == index).sum()) for ids in (split.train, split.validation))
        got = [trained, validated, total - trained - validated]
        lines += _missed(manifest.domains[index], got, [1 - validation - test, validation, test], total)
    for domain in _targets(manifest, split):
        total = len(split.tests[domain])
        count = len(split.target_validation.get(domain, ()))
        lines += _missed(domain, [total - count, count], [1 - validation, validation], total, "oracle selection")
    return lines


def _missed(domain: str, got: list[int], asked: list[float], total: int, purpose: str = "") -> list[str]:
    if max(abs(count / total - share) for count, share in zip(got, asked, strict=True)) <= MOST_POINTS:
        return []
    if purpose:
        return [f"domain '{domain}': {got[1]:,} of {total:,} images ({got[1] / total:.1%}) for {purpose}, "
                f"asked for {asked[1]:.1%}"]  # fmt: skip
    counts, shares, wanted = (
        "/".join(texts)
        for texts in (map(str, got), [f"{count / total:.1%}" for count in got], [f"{share:.1%}" for share in asked])
    )
    return [
        f"domain '{domain}': cut into {counts} images ({shares}) for training/validation/test, asked for {wanted}: "
        "its bundles are too large or too few (protocol.keep_together)"
    ]


def _classes_out_of_place(manifest: Manifest, split: Split) -> list[str]:
    labels = np.array(manifest.labels)
    trained, validated = (set(labels[ids].tolist()) for ids in (split.train, split.validation))
    lines = _classes(manifest, trained - validated, "trained and in no validation image, so that no selection sees it")
    targets = _targets(manifest, split)
    if not targets:
        return lines
    tested = np.concatenate([split.tests[domain] for domain in targets])
    lines += _classes(manifest, trained - set(labels[tested].tolist()), "trained and in no target domain")
    lost = tested[~np.isin(labels[tested], sorted(trained))]
    if len(lost):
        first = int(lost[0])
        name, domain = manifest.classes[labels[first]], manifest.domains[manifest.domain_indices[first]]
        lines.append(
            f"{len(lost):,} of {len(tested):,} target images are of classes that no training image shows, and can "
            f"only be wrong ({len(set(labels[lost].tolist())):,} classes; first: '{name}' in domain '{domain}')"
        )
    return lines


def _classes(manifest: Manifest, labels: Iterable[int], what: str) -> list[str]:
    found = sorted(labels)
    return [f"{len(found):,} classes: {what} (first: '{manifest.classes[found[0]]}')"] if found else []


def copies_elsewhere(manifest: Manifest, split: Split, other: Manifest) -> list[str]:
    """A line where another benchmark, which tests, holds copies of images that trained or selected."""
    used, all_ids = np.concatenate([split.train, split.validation]), np.arange(len(other))
    what = f"test images of {other.benchmark} are byte copies of training or validation images"
    return _copies(other, all_ids, manifest, used, what)


def _leaks(manifest: Manifest, split: Split) -> list[str]:
    """Copies, byte for byte, of training images among those that select, and of either among those that test."""
    used = np.concatenate([split.train, split.validation])
    what = "validation images are byte copies of training images"
    lines = _copies(manifest, split.validation, manifest, split.train, what)
    for domain, ids in split.tests.items():
        what = f"test images of domain '{domain}' are byte copies of training or validation images"
        lines += _copies(manifest, ids, manifest, used, what)
    return lines


def _copies(manifest: Manifest, ids: Ids, of: Manifest, of_ids: Ids, what: str) -> list[str]:
    originals = {of.hashes[index]: index for index in reversed(of_ids.tolist())}
    found = [index for index in ids.tolist() if manifest.hashes[index] in originals]
    if not found:
        return []
    first = f"{manifest.paths[found[0]]} = {of.paths[originals[manifest.hashes[found[0]]]]}"
    return [f"{len(found):,} of {len(ids):,} {what} (first: {first})"]


def _targets(manifest: Manifest, split: Split) -> list[str]:
    sources = set(np.array(manifest.domain_indices)[split.train].tolist())
    return [domain for domain in split.tests if manifest.domains.index(domain) not in sources]
