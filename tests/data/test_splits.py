from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import DOMAINS, make_manifest
from refusals import raises

from align_dist.data.manifest import Manifest
from align_dist.data.splits import cut_domain, make_split
from align_dist.errors import ConfigError, DataError


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Three domains of 12 to 60 samples, one to four classes, bursts of up to five samples."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes, burst = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    domain_indices = np.repeat(np.arange(3), rng.integers(12, 61, 3))
    starts = rng.random(len(domain_indices)) < 1 / burst
    starts |= np.diff(domain_indices, prepend=-1) != 0
    bundles = np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))
    return make_manifest(rng.integers(0, classes, len(starts)), domain_indices, bundles)


def cut(manifest: Manifest, domain: str, seed: int = 0) -> Any:
    return cut_domain(manifest, domain, 0.2, 0.2, seed)


@given(manifest=manifests(), seed=st.integers(0, 1000))
def test_parts_cover_a_domain_once_and_cut_no_bundle(manifest: Manifest, seed: int) -> None:
    for index, domain in enumerate(manifest.domains):
        parts = cut(manifest, domain, seed)
        together = np.concatenate([parts.train, parts.validation, parts.test])
        expected = np.flatnonzero(np.array(manifest.domain_indices) == index)
        assert np.array_equal(np.sort(together), expected)
        assert all(np.array_equal(part, np.sort(part)) for part in (parts.train, parts.validation, parts.test))
        bundles = [set(np.array(manifest.bundles)[part]) for part in (parts.train, parts.validation, parts.test)]
        assert not bundles[0] & bundles[1] and not bundles[0] & bundles[2] and not bundles[1] & bundles[2]


@given(manifest=manifests(), seed=st.integers(0, 1000))
def test_the_cut_of_a_domain_depends_on_its_own_samples_only(manifest: Manifest, seed: int) -> None:
    labels, domains = np.array(manifest.labels), np.array(manifest.domain_indices)
    changed = np.where(domains == 1, labels, (labels + 1) % len(manifest.classes))
    other = replace(manifest, labels=tuple(int(value) for value in changed))
    assert np.array_equal(cut(manifest, "LabelMe", seed).train, cut(other, "LabelMe", seed).train)
    # The same domain after another number of samples of the first: ids move, the choice does not.
    keep = np.flatnonzero(domains > 0)
    first = int(keep[0])
    bundles = np.array(manifest.bundles)[keep]
    shifted = make_manifest(
        np.concatenate([[len(manifest.classes) - 1], labels[keep]]),
        np.concatenate([[0], domains[keep]]),
        np.concatenate([[0], bundles - first + 1]),
    )
    assert np.array_equal(cut(manifest, "LabelMe", seed).test - first, cut(shifted, "LabelMe", seed).test - 1)


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(10, 80), min_size=2, max_size=5),
    validation=st.floats(0.1, 0.3),
    test=st.floats(0.0, 0.3),
    seed=st.integers(0, 99),
)
def test_single_images_are_stratified_to_within_one_image(
    sizes: list[int], validation: float, test: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    manifest = make_manifest(labels, np.zeros(len(labels)))
    parts = cut_domain(manifest, "Caltech101", validation, test, seed)
    for label, size in enumerate(sizes):
        for part, fraction in ((parts.validation, validation), (parts.test, test)):
            assert abs((labels[part] == label).sum() - fraction * size) <= 1.0


def test_other_domains_and_classes_come_and_go_without_moving_a_cut() -> None:
    manifest = make_manifest(np.arange(120) % 4, np.repeat(np.arange(3), 40))
    before = [cut(manifest, domain, 5) for domain in DOMAINS]
    # A domain before all others, of a class before all others and one after them.
    more = replace(
        manifest,
        domains=("AID", *DOMAINS),
        classes=("aardvark", *manifest.classes, "zebra"),
        paths=("a.png", "b.png", *manifest.paths),
        hashes=("a", "b", *manifest.hashes),
        labels=(0, 5, *(label + 1 for label in manifest.labels)),
        domain_indices=(0, 0, *(index + 1 for index in manifest.domain_indices)),
        bundles=(0, 1, *(bundle + 2 for bundle in manifest.bundles)),
    )
    for domain, parts in zip(DOMAINS, before, strict=True):
        after = cut(more, domain, 5)
        assert np.array_equal(after.train - 2, parts.train) and np.array_equal(after.test - 2, parts.test)
    # A class that comes to a domain leaves the cuts of the domain's other classes alone.
    extra = replace(
        more,
        labels=(0, 5, *more.labels[2:], 0, 0, 0),
        domain_indices=(*more.domain_indices, 1, 1, 1),
        paths=(*more.paths, "x", "y", "z"),
        hashes=(*more.hashes, "x", "y", "z"),
        bundles=(*more.bundles, 122, 123, 124),
    )
    assert set(cut(extra, DOMAINS[0], 5).validation.tolist()) >= set((before[0].validation + 2).tolist())
    # Two domains of the same pictures are not cut alike: their names differ.
    assert not np.array_equal(before[0].test, before[1].test - 40)


def test_a_setting_says_what_no_cut_goes_through() -> None:
    near = [0, 0, 0, 0, *range(4, 40)]
    manifest = make_manifest([0] * 40, [0] * 40, near)
    manifest = replace(manifest, hashes=("a", "b", "a", "c", *manifest.hashes[4:]))
    together: dict[str, set[bool]] = {"off": set(), "copies": set(), "near": set()}
    for setting, outcomes in together.items():
        for seed in range(40):
            parts = cut_domain(manifest, "Caltech101", 0.3, 0.3, seed, setting)
            homes = [[int(index) in part for part in (parts.train, parts.validation, parts.test)] for index in range(4)]
            assert setting == "off" or homes[0] == homes[2]
            outcomes.add(homes[0] == homes[1] == homes[2] == homes[3])
    assert together == {"off": {False, True}, "copies": {False, True}, "near": {True}}


@pytest.mark.parametrize(("hashes", "helps"), [("abcdefghij" * 4, "copies"), ("a" * 40, "off")])
def test_a_domain_of_one_group_is_told_what_helps(hashes: str, helps: str) -> None:
    manifest = replace(make_manifest(np.arange(80) % 2, np.repeat([0, 1], 40), [0] * 40 + [40] * 40))
    manifest = replace(manifest, hashes=tuple(hashes) * 2)
    with raises(DataError, f"protocol.keep_together={helps}", "40 images", "1 bundles"):
        split(manifest, source="Caltech101")
    assert len(split(manifest, source="Caltech101", keep_together=helps).train) > 0


def test_a_target_of_one_image_a_class_is_tested_without_a_validation_part() -> None:
    manifest = make_manifest([*np.arange(40) % 4, 0, 1, 2, 3], [0] * 40 + [1] * 4)
    result = split(manifest, source="Caltech101")
    assert result.tests["LabelMe"].tolist() == [40, 41, 42, 43] and result.target_validation == {}


def test_bursts_are_cut_near_the_fractions_and_large_ones_do_not_always_train() -> None:
    sizes = np.random.default_rng(0).integers(1, 12, 150)
    bundles = np.repeat(np.cumsum(sizes) - sizes, sizes)
    manifest = make_manifest(np.zeros(len(bundles)), np.zeros(len(bundles)), bundles)
    largest = int(bundles[np.argmax(np.repeat(sizes, sizes))])
    homes = set()
    for seed in range(30):
        parts = cut(manifest, "Caltech101", seed)
        assert len(parts.test) / len(bundles) == pytest.approx(0.2, abs=0.03)
        homes.add([largest in part for part in (parts.train, parts.validation, parts.test)].index(True))
    assert homes == {0, 1, 2}


@pytest.mark.parametrize("seed", range(10))
def test_a_group_too_large_for_a_part_leaves_the_fractions_right(seed: int) -> None:
    """Two classes, of each half the images are one bundle: it fits into no other part than training."""
    bundles = np.arange(200)
    bundles[:50], bundles[100:150] = 0, 100
    parts = cut(make_manifest(np.repeat([0, 1], 100), [0] * 200, bundles), "Caltech101", seed)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (120, 40, 40)


def test_seeds_give_other_cuts_and_the_same_seed_the_same() -> None:
    manifest = make_manifest(np.arange(60) % 3, np.zeros(60))
    assert np.array_equal(cut(manifest, "Caltech101", 1).test, cut(manifest, "Caltech101", 1).test)
    assert not np.array_equal(cut(manifest, "Caltech101", 1).test, cut(manifest, "Caltech101", 2).test)


def test_a_class_of_one_burst_is_for_training() -> None:
    labels = [0] * 20 + [1] * 3
    manifest = make_manifest(labels, [0] * 23, [*range(20), 20, 20, 20])
    for seed in range(10):
        assert set(cut(manifest, "Caltech101", seed).train) >= {20, 21, 22}


@pytest.fixture
def three() -> Manifest:
    return make_manifest(np.arange(120) % 4, np.repeat(np.arange(3), 40))


def split(manifest: Manifest, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "kind": "single_source",
        "source": None,
        "target": None,
        "validation_fraction": 0.2,
        "test_fraction": 0.2,
        "seed": 3,
    }
    return make_split(manifest, **{**arguments, **changes})


def test_protocols_share_one_cut_of_each_domain(three: Manifest) -> None:
    inside = split(three, kind="in_domain", source="LabelMe")
    single = split(three, kind="single_source", source="LabelMe")
    loo = split(three, kind="leave_one_out", target="Caltech101")
    parts = {domain: cut(three, domain, 3) for domain in DOMAINS}
    assert list(inside.tests) == ["LabelMe"] and inside.target_validation == {}
    assert np.array_equal(inside.train, single.train)
    assert np.array_equal(inside.tests["LabelMe"], single.tests["LabelMe"])
    assert np.array_equal(single.tests["SUN09"], np.arange(80, 120))
    assert np.array_equal(single.target_validation["Caltech101"], parts["Caltech101"].validation)
    assert set(single.target_validation) == {"Caltech101", "SUN09"}
    assert np.array_equal(loo.train, np.concatenate([parts["LabelMe"].train, parts["SUN09"].train]))
    assert np.array_equal(loo.validation, np.concatenate([parts["LabelMe"].validation, parts["SUN09"].validation]))
    assert set(loo.tests) == set(DOMAINS) and set(loo.target_validation) == {"Caltech101"}
    assert np.array_equal(loo.tests["Caltech101"], np.arange(40))


@pytest.mark.parametrize(
    "choice", [{"kind": "single_source", "source": "SUN09"}, {"kind": "leave_one_out", "target": "SUN09"}]
)
def test_nothing_tested_was_trained_or_selected_on(three: Manifest, choice: dict[str, str]) -> None:
    result = split(three, **choice)
    used = set(result.train) | set(result.validation)
    assert not set(result.train) & set(result.validation)
    assert all(not used & set(ids) for ids in result.tests.values())
    assert all(not used & set(ids) for ids in result.target_validation.values())


def with_parts(manifest: Manifest) -> Manifest:
    """Of every domain one image in four validates and one in four tests; of the last, none trains."""
    parts = ["train", "validation", "test", "train"] * (len(manifest) // 4)
    parts[80:] = ["test", "validation"] * 20
    return replace(manifest, parts=tuple(parts))


def test_a_fixed_split_is_the_benchmarks_own_whatever_looks_alike(three: Manifest) -> None:
    manifest = replace(with_parts(three), bundles=(0,) * len(three))
    whole = split(manifest, kind="fixed")
    assert whole.train.tolist() == [index for index in range(80) if index % 4 in (0, 3)]
    assert whole.validation.tolist() == [*range(1, 80, 4), *range(81, 120, 2)]
    assert {name: ids.tolist() for name, ids in whole.tests.items()} == {
        "Caltech101": list(range(2, 40, 4)), "LabelMe": list(range(42, 80, 4)), "SUN09": list(range(80, 120, 2)),
    }  # fmt: skip
    assert whole.target_validation == {}
    one = split(manifest, kind="fixed", source="LabelMe", seed=9, keep_together="off")
    assert np.array_equal(one.train, whole.train[whole.train >= 40])
    assert one.validation.tolist() == list(range(41, 80, 4))
    assert list(one.tests) == ["Caltech101", "LabelMe", "SUN09"]


def test_a_fixed_split_that_cannot_be_is_one_line(three: Manifest) -> None:
    with raises(ConfigError, "benchmark.metadata"):
        split(three, kind="fixed")
    manifest = with_parts(three)
    with raises(ConfigError, "'LabelMe'"):
        split(manifest, kind="fixed", source="LabelM")
    with raises(ConfigError, "protocol.target"):
        split(manifest, kind="fixed", target="LabelMe")
    with raises(DataError, "'SUN09'", "'train'"):
        split(manifest, kind="fixed", source="SUN09")
    with raises(DataError, "'test'"):
        split(replace(manifest, parts=("train", "validation") * 60), kind="fixed")


def test_without_a_test_fraction_only_targets_are_tested(three: Manifest) -> None:
    result = split(three, kind="leave_one_out", target="SUN09", test_fraction=0.0)
    assert list(result.tests) == ["SUN09"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"source": "LabelM"}, ["'LabelMe'", "Caltech101, LabelMe, SUN09"]),
        ({"source": "zzz"}, ["'zzz'", "Caltech101, LabelMe, SUN09"]),
        ({}, ["protocol.source: "]),
        ({"kind": "leave_one_out"}, ["protocol.target: "]),
        ({"kind": "in_domain", "source": "SUN09", "target": "LabelMe"}, ["protocol.target", "LabelMe"]),
        ({"kind": "nonsense", "source": "SUN09"}, ["protocol.kind", "leave_one_out"]),
        ({"source": "SUN09", "validation_fraction": 0.0}, ["validation_fraction"]),
        ({"source": "SUN09", "validation_fraction": float("nan")}, ["validation_fraction"]),
        ({"source": "SUN09", "test_fraction": -0.1}, ["test_fraction"]),
        (
            {"source": "SUN09", "validation_fraction": 0.5, "test_fraction": 0.5},
            ["validation_fraction", "test_fraction"],
        ),
        ({"kind": "in_domain", "source": "SUN09", "test_fraction": 0.0}, ["test_fraction"]),
    ],
)
def test_impossible_protocols_are_one_line(three: Manifest, changes: dict[str, Any], names: list[str]) -> None:
    with raises(ConfigError, *names):
        split(three, **changes)


def test_one_domain_has_no_other_to_generalise_to() -> None:
    manifest = make_manifest(np.arange(30) % 3, np.zeros(30))
    with raises(ConfigError, "protocol.kind"):
        split(manifest, source="Caltech101")


def test_too_few_images_are_an_error() -> None:
    manifest = make_manifest([0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 3])
    with raises(DataError, "Caltech101"):
        split(manifest, source="Caltech101")
