from __future__ import annotations

from dataclasses import replace

import pytest
from manifests import make_manifest
from refusals import raises

from align_dist.data.checks import benchmark_warnings, check_classes_differ
from align_dist.data.manifest import Manifest
from align_dist.errors import DataError


def sound() -> Manifest:
    """Two domains of three classes, four images each."""
    return make_manifest([0, 1, 2] * 8, [0] * 12 + [1] * 12)


def test_a_sound_benchmark_has_no_warnings() -> None:
    assert benchmark_warnings(sound()) == []


@pytest.mark.parametrize("names", [("Cat", "cat", "dog"), ("polar bear", "polar_bear", "x"), ("é", "e\u0301", "x")])
def test_names_that_differ_in_spelling_only_are_told(names: tuple[str, str, str]) -> None:
    (line,) = benchmark_warnings(replace(sound(), classes=names))
    assert "2 classes" in line and f"'{names[0]}' and '{names[1]}'" in line
    (line,) = benchmark_warnings(replace(sound(), domains=names[:2]))
    assert "2 domains" in line


def test_images_in_two_places_are_counted_by_their_bytes() -> None:
    hashes = list(sound().hashes)
    hashes[13] = hashes[1]  # the same class, another domain
    (line,) = benchmark_warnings(replace(sound(), hashes=tuple(hashes)))
    assert line.startswith("2 images") and "another domain" in line and "1.png = 13.png" in line
    hashes[4], hashes[5] = hashes[3], hashes[3]  # another class of the same domain, twice
    lines = benchmark_warnings(replace(sound(), hashes=tuple(hashes)))
    assert [line.split()[0] for line in lines] == ["3", "2"]
    assert "another class" in lines[0] and "3.png = 4.png" in lines[0]


def test_classes_that_a_domain_lacks_are_told() -> None:
    manifest = make_manifest([0, 1, 2, 0, 1, 1], [0, 0, 0, 1, 1, 1])
    (line,) = benchmark_warnings(manifest)
    assert "1 of 3 classes" in line and "'class2' in 'LabelMe'" in line


def test_one_class_is_refused() -> None:
    with raises(DataError, "'cat'"):
        check_classes_differ(("cat",))
    check_classes_differ(("cat", "dog"))
