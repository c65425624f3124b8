"""Who trains, validates and tests on what: every domain cut once, whole groups of pictures at a time."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from align_dist.data.duplicates import copy_groups
from align_dist.data.manifest import Manifest
from align_dist.errors import ConfigError, DataError

Ids = NDArray[np.int64]
Kind = Literal["in_domain", "single_source", "leave_one_out"]
# What no cut goes through: nothing, pictures of equal bytes, or look-alikes and bursts as well.
KeepTogether = Literal["off", "copies", "near"]
STRICTNESS: tuple[KeepTogether, ...] = ("near", "copies", "off")


@dataclass(frozen=True)
class Split:
    """Sample ids, sorted. tests: by domain. target_validation: for oracle selection only, by domain."""

    train: Ids
    validation: Ids
    tests: dict[str, Ids]
    target_validation: dict[str, Ids]

    def without_tests(self) -> Split:
        """The source domains' training and validation parts alone."""
        return replace(self, tests={}, target_validation={})


@dataclass(frozen=True)
class Parts:
    """One domain's cut into three disjoint parts that cover it; sample ids, sorted."""

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
    """The split of a protocol. The cut of a domain depends on its own name, its own samples and the seed alone.

    in_domain: all three parts from `source`. single_source: train on `source`; test on its test part
    and on every other domain whole. leave_one_out: train on all domains but `target`; test on their
    test parts and on `target` whole. Domains whose test part is empty (test_fraction 0) have no entry
    in tests, and targets whose validation part is empty have none in target_validation. Raises ConfigError for an
    impossible protocol, DataError where a part would be empty.
    """
    _check_fractions(kind, validation_fraction, test_fraction)
    sources = _source_domains(manifest, kind, source, target)
    targets = [] if kind == "in_domain" else [name for name in manifest.domains if name not in sources]
    fractions = (validation_fraction, test_fraction)
    parts = {name: cut_domain(manifest, name, *fractions, seed, keep_together) for name in sources + targets}
    for name in sources:
        if not len(parts[name].train) or not len(parts[name].validation):
            raise DataError(_too_few(manifest, name, keep_together, "a training and a validation part"))
    domain_of = np.array(manifest.domain_indices)
    tests = {name: parts[name].test for name in sources if len(parts[name].test)}
    tests |= {name: np.flatnonzero(domain_of == manifest.domains.index(name)) for name in targets}
    if not tests:
        raise DataError(_too_few(manifest, sources[0], keep_together, "a test part"))
    return Split(
        train=np.sort(np.concatenate([parts[name].train for name in sources])),
        validation=np.sort(np.concatenate([parts[name].validation for name in sources])),
        tests=tests,
        target_validation={name: parts[name].validation for name in targets if len(parts[name].validation)},
    )


def groups_of(manifest: Manifest, domain: str, keep_together: KeepTogether) -> tuple[Ids, Ids]:
    """The samples of a domain and the group of each, which no cut goes through: (N,) and (N,)."""
    ids = np.flatnonzero(np.array(manifest.domain_indices) == manifest.domains.index(domain))
    if keep_together == "off":
        return ids, ids
    if keep_together == "copies":
        return ids, ids[copy_groups([manifest.hashes[index] for index in ids.tolist()])]
    return ids, np.array(manifest.groups, np.int64)[ids]


def cut_domain(
    manifest: Manifest,
    domain: str,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    keep_together: KeepTogether = "near",
) -> Parts:
    """Cuts one domain, class by class, whole groups at a time.

    A group counts for its most frequent class. A class with a single group is for training: tested
    but never trained, it could only be wrong. Domains and classes draw by name, so that others may come and go.
    """
    ids, groups = groups_of(manifest, domain, keep_together)
    labels = np.array(manifest.labels)[ids]
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    votes = np.zeros((len(sizes), len(manifest.classes)), dtype=np.int64)
    np.add.at(votes, (group_of, labels), 1)
    group_label = votes.argmax(axis=1)
    fractions = np.array([1.0 - validation_fraction - test_fraction, validation_fraction, test_fraction])
    part_of_group = np.zeros(len(sizes), dtype=np.int64)
    for label in np.unique(group_label):
        members = np.flatnonzero(group_label == label)
        if len(members) > 1:
            rng = np.random.default_rng([seed, _number(domain), _number(manifest.classes[label])])
            part_of_group[members] = _assign(sizes[members], fractions, rng)
    part = part_of_group[group_of]
    return Parts(*(ids[part == number] for number in range(3)))


def _number(name: str) -> int:
    """A name as a seed, in [0, 2^64)."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "little")


def _too_few(manifest: Manifest, domain: str, keep_together: KeepTogether, wanted: str) -> str:
    """What to say of a domain whose groups are too few, with the setting that makes more of them where one does."""
    counts = {choice: len(np.unique(groups_of(manifest, domain, choice)[1])) for choice in STRICTNESS}
    weaker = STRICTNESS[STRICTNESS.index(keep_together) + 1 :]
    better = [f"protocol.keep_together={choice}" for choice in weaker if counts[choice] > counts[keep_together]]
    remedy = f"; or keep less together with {better[0]}" if better else ""
    return (
        f"domain '{domain}': too few independent images for {wanted}: its {counts['off']:,} images are "
        f"{counts[keep_together]:,} groups (protocol.keep_together={keep_together}); add images or change the fractions"
        f"{remedy}"
    )


def _assign(sizes: NDArray[np.int64], fractions: NDArray[np.float64], rng: np.random.Generator) -> Ids:
    """Part (0, 1, 2) of each group, (G,): large groups first, each where images are still wanted.

    A group of several images is drawn in proportion to what each part lacks, so that large bursts do
    not always train, among the parts that it fits into; a single image, and a group that fits into none,
    goes to the part that lacks most, so that fractions come out near.
    """
    wanted = fractions * sizes.sum()
    parts = np.zeros(len(sizes), dtype=np.int64)
    shuffled = rng.permutation(len(sizes))
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fitting = np.where(wanted >= sizes[group], wanted, 0.0)
        if sizes[group] > 1 and fitting.any():
            choice = int(rng.choice(3, p=fitting / fitting.sum()))
        else:
            choice = int(wanted.argmax())
        parts[group] = choice
        wanted[choice] -= sizes[group]
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


def _source_domains(manifest: Manifest, kind: str, source: str | None, target: str | None) -> list[str]:
    """The domains to train on, checked."""
    roles = {"in_domain": "source", "single_source": "source", "leave_one_out": "target"}
    if kind not in roles:
        raise ConfigError(f"protocol.kind: got '{kind}', expected one of {', '.join(roles)}")
    role = roles[kind]
    domain, unused = (source, target) if role == "source" else (target, source)
    other = "target" if role == "source" else "source"
    listed = ", ".join(manifest.domains)
    if unused is not None:
        raise ConfigError(f"protocol.{other}: got '{unused}', but protocol.kind={kind} takes none; remove it")
    if domain is None:
        raise ConfigError(f"protocol.{role}: missing, protocol.kind={kind} needs it; one of {listed}")
    if domain not in manifest.domains:
        close = difflib.get_close_matches(domain, manifest.domains, n=1, cutoff=0.4)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ConfigError(f"protocol.{role}: no domain '{domain}'; {hint}one of {listed}")
    if kind != "in_domain" and len(manifest.domains) < 2:
        raise ConfigError(f"protocol.kind: {kind} needs two domains, there is only '{listed}'; use in_domain")
    return [domain] if role == "source" else [name for name in manifest.domains if name != domain]
