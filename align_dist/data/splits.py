"""Training, validation and test splits: every domain is cut once, whole bundles of images at a time."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from align_dist.data.duplicates import copy_bundles
from align_dist.data.manifest import Manifest
from align_dist.errors import ConfigError, DataError

Ids = NDArray[np.int64]
Kind = Literal["in_domain", "single_source", "leave_one_out", "fixed"]
# Images that no split separates: none, files of equal bytes, or near-duplicates and bursts as well.
KeepTogether = Literal["off", "copies", "near"]
STRICTNESS: tuple[KeepTogether, ...] = ("near", "copies", "off")


@dataclass(frozen=True)
class Split:
    """Sorted sample ids of each part. tests: by domain. target_validation: by domain, for oracle selection only."""

    train: Ids
    validation: Ids
    tests: dict[str, Ids]
    target_validation: dict[str, Ids]

    def without_tests(self) -> Split:
        """The source domains' training and validation parts alone."""
        return replace(self, tests={}, target_validation={})


@dataclass(frozen=True)
class Parts:
    """Three disjoint parts that cover one domain; sorted sample ids."""

    train: Ids
    validation: Ids
    test: Ids


def make_split(
    manifest: Manifest,
    *,
    kind: Kind,
    source: str | None,
    target: str | None,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    keep_together: KeepTogether = "near",
) -> Split:
    """The split of a protocol. The cut of a domain depends only on the domain's name and samples and on the seed.

    in_domain: all three parts from `source`. single_source: train on `source`; test on its test part and on all of
    every other domain. leave_one_out: train on all domains but `target`; test on their test parts and on all of
    `target`. fixed: see `fixed_split`. Domains with an empty test part (test_fraction 0) have no entry in tests, and
    targets with an empty validation part have none in target_validation. Raises ConfigError for an impossible
    protocol, DataError for an empty part.
    """
    if kind == "fixed":
        return fixed_split(manifest, source, target)
    _check_fractions(kind, validation_fraction, test_fraction)
    sources = _source_domains(manifest, kind, source, target)
    targets = [] if kind == "in_domain" else [name for name in manifest.domains if name not in sources]
    fractions = (validation_fraction, test_fraction)
    parts = {name: cut_domain(manifest, name, *fractions, seed, keep_together) for name in sources + targets}
    for name in sources:
        if not len(parts[name].train) or not len(parts[name].validation):
            raise DataError(_too_few_message(manifest, name, keep_together, "a training and a validation part"))
    domain_of = np.array(manifest.domain_indices)
    tests = {name: parts[name].test for name in sources if len(parts[name].test)}
    tests |= {name: np.flatnonzero(domain_of == manifest.domains.index(name)) for name in targets}
    if not tests:
        raise DataError(_too_few_message(manifest, sources[0], keep_together, "a test part"))
    return Split(
        train=np.sort(np.concatenate([parts[name].train for name in sources])),
        validation=np.sort(np.concatenate([parts[name].validation for name in sources])),
        tests=tests,
        target_validation={name: parts[name].validation for name in targets if len(parts[name].validation)},
    )


def fixed_split(manifest: Manifest, source: str | None, target: str | None) -> Split:
    """The benchmark's own split: training and validation parts of `source` (or of all domains without a source), and
    the test part of every domain. Bundles may be separated.

    Raises ConfigError for a benchmark without parts and an unknown domain, DataError for an empty part.
    """
    if target is not None:
        raise _unused_domain_error("target", target, "fixed")
    if not manifest.parts:
        raise ConfigError(
            f"protocol.kind: fixed, but {manifest.benchmark} has no split of its own; "
            "give the parts in a file (benchmark.metadata) or choose another kind"
        )
    domain_of, part_of = np.array(manifest.domain_indices), np.array(manifest.parts)
    inside = np.ones(len(manifest), np.bool_)
    if source is not None:
        inside = domain_of == _domain_index(manifest, "source", source)
    train, validation = (np.flatnonzero(inside & (part_of == name)) for name in ("train", "validation"))
    test_ids = {name: np.flatnonzero((domain_of == i) & (part_of == "test")) for i, name in enumerate(manifest.domains)}
    tests = {name: ids for name, ids in test_ids.items() if len(ids)}
    for name, samples in (("train", train), ("validation", validation), ("test", tests)):
        if not len(samples):
            place = "" if source is None or name == "test" else f" of domain '{source}'"
            raise DataError(f"{manifest.benchmark}: no image{place} is in the part '{name}' of its own split; add some")
    return Split(train, validation, tests, {})


def bundles_of(manifest: Manifest, domain: str, keep_together: KeepTogether) -> tuple[Ids, Ids]:
    """The samples of a domain and the bundle of each sample: (N,) and (N,)."""
    ids = np.flatnonzero(np.array(manifest.domain_indices) == manifest.domains.index(domain))
    if keep_together == "off":
        return ids, ids
    if keep_together == "copies":
        return ids, ids[copy_bundles([manifest.hashes[index] for index in ids.tolist()])]
    return ids, np.array(manifest.bundles, np.int64)[ids]


def cut_domain(
    manifest: Manifest,
    domain: str,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    keep_together: KeepTogether = "near",
) -> Parts:
    """Cut one domain, class by class, whole bundles at a time.

    A bundle counts for its most frequent class. A class with a single bundle goes to training, because a class that is
    only tested cannot be predicted. Random numbers are seeded by the names of domain and class, so that a cut does not
    depend on other domains and classes.
    """
    ids, bundles = bundles_of(manifest, domain, keep_together)
    labels = np.array(manifest.labels)[ids]
    _, bundle_of, sizes = np.unique(bundles, return_inverse=True, return_counts=True)
    votes = np.zeros((len(sizes), len(manifest.classes)), dtype=np.int64)
    np.add.at(votes, (bundle_of, labels), 1)
    bundle_label = votes.argmax(axis=1)
    fractions = np.array([1.0 - validation_fraction - test_fraction, validation_fraction, test_fraction])
    part_of_bundle = np.zeros(len(sizes), dtype=np.int64)
    for label in np.unique(bundle_label):
        members = np.flatnonzero(bundle_label == label)
        if len(members) > 1:
            rng = np.random.default_rng([seed, _number(domain), _number(manifest.classes[label])])
            part_of_bundle[members] = _assign(sizes[members], fractions, rng)
    part = part_of_bundle[bundle_of]
    return Parts(*(ids[part == number] for number in range(3)))


def _number(name: str) -> int:
    """A name as a seed, in [0, 2^64)."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "little")


def _too_few_message(manifest: Manifest, domain: str, keep_together: KeepTogether, parts: str) -> str:
    """The message for a domain with too few bundles, with a setting that gives more bundles where there is one."""
    counts = {choice: len(np.unique(bundles_of(manifest, domain, choice)[1])) for choice in STRICTNESS}
    weaker = STRICTNESS[STRICTNESS.index(keep_together) + 1 :]
    better = [f"protocol.keep_together={choice}" for choice in weaker if counts[choice] > counts[keep_together]]
    remedy = f"; or get more bundles with {better[0]}" if better else ""
    return (
        f"domain '{domain}': too few independent images for {parts}: its {counts['off']:,} images are "
        f"{counts[keep_together]:,} bundles (protocol.keep_together={keep_together}); "
        f"add images or change the fractions{remedy}"
    )


def _assign(sizes: NDArray[np.int64], fractions: NDArray[np.float64], rng: np.random.Generator) -> Ids:
    """Part (0, 1, 2) of each bundle, (G,): large bundles first, each to a part that still needs images.

    A bundle of several images is drawn among the parts with enough room, in proportion to their deficits, so that large
    bursts do not always train. A single image, or a bundle without such a part, goes to the part with the largest
    deficit, so that the parts come close to the fractions.
    """
    deficits = fractions * sizes.sum()
    parts = np.zeros(len(sizes), dtype=np.int64)
    shuffled = rng.permutation(len(sizes))
    for bundle in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fitting = np.where(deficits >= sizes[bundle], deficits, 0.0)
        if sizes[bundle] > 1 and fitting.any():
            choice = int(rng.choice(3, p=fitting / fitting.sum()))
        else:
            choice = int(deficits.argmax())
        parts[bundle] = choice
        deficits[choice] -= sizes[bundle]
    return parts


def _check_fractions(kind: str, validation_fraction: float, test_fraction: float) -> None:
    if not 0.0 < validation_fraction < 1.0:
        raise ConfigError(f"protocol.validation_fraction: got {validation_fraction}, expected above 0 and below 1")
    if not 0.0 <= test_fraction < 1.0:
        raise ConfigError(f"protocol.test_fraction: got {test_fraction}, expected at least 0 and less than 1")
    if validation_fraction + test_fraction >= 1.0:
        raise ConfigError(
            f"protocol: validation_fraction {validation_fraction} and test_fraction {test_fraction} leave "
            "nothing to train on; their sum must be less than 1"
        )
    if kind == "in_domain" and test_fraction == 0.0:
        raise ConfigError("protocol.test_fraction: got 0, but in_domain tests on that part; try 0.2")


def _unused_domain_error(role: str, domain: str, kind: str) -> ConfigError:
    problem = f"protocol.{role}: got '{domain}', but protocol.kind={kind} takes none"
    return ConfigError(f"{problem}; remove it, or set protocol.{role}=null")


def _source_domains(manifest: Manifest, kind: str, source: str | None, target: str | None) -> list[str]:
    """The training domains. Raises ConfigError where the protocol is impossible."""
    roles = {"in_domain": "source", "single_source": "source", "leave_one_out": "target"}
    if kind not in roles:
        raise ConfigError(f"protocol.kind: got '{kind}', expected one of {', '.join(roles)}, fixed")
    role = roles[kind]
    domain, unused = (source, target) if role == "source" else (target, source)
    other = "target" if role == "source" else "source"
    listed = ", ".join(manifest.domains)
    if unused is not None:
        raise _unused_domain_error(other, unused, kind)
    if domain is None:
        raise ConfigError(f"protocol.{role}: missing, protocol.kind={kind} needs it; one of {listed}")
    _domain_index(manifest, role, domain)
    if kind != "in_domain" and len(manifest.domains) < 2:
        raise ConfigError(f"protocol.kind: {kind} needs two domains, and there is only '{listed}'; use in_domain")
    return [domain] if role == "source" else [name for name in manifest.domains if name != domain]


def _domain_index(manifest: Manifest, role: str, domain: str) -> int:
    """A domain's index in the manifest. Raises ConfigError for an unknown domain."""
    if domain in manifest.domains:
        return manifest.domains.index(domain)
    close = difflib.get_close_matches(domain, manifest.domains, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise ConfigError(f"protocol.{role}: no domain '{domain}'; {hint}one of {', '.join(manifest.domains)}")
