from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from manifests import make_manifest
from refusals import raises

from align_dist.data.manifest import Manifest
from align_dist.data.split_checks import check_split, copies_in_other_benchmark, fixed_warnings, split_warnings
from align_dist.data.splits import Split, make_split
from align_dist.errors import DataError


def single_source(manifest: Manifest, **changes: Any) -> Split:
    protocol: dict[str, Any] = {"kind": "single_source", "source": "Caltech101", "target": None, "seed": 0}
    return make_split(manifest, **{**protocol, "validation_fraction": 0.2, "test_fraction": 0.2, **changes})


def warnings(manifest: Manifest, **changes: Any) -> list[str]:
    lines = split_warnings(manifest, single_source(manifest, **changes), 0.2, 0.2)
    assert all("\n" not in line for line in lines)
    return lines


def sound() -> Manifest:
    """Two domains of four classes, twenty images each."""
    return make_manifest(np.arange(160) % 4, [0] * 80 + [1] * 80)


@pytest.mark.parametrize("setting", ["off", "copies", "near"])
def test_a_sound_task_has_no_warnings(setting: str) -> None:
    check_split(sound(), single_source(sound()))
    assert warnings(sound(), keep_together=setting) == []


def test_parts_that_miss_their_fraction_are_told_with_both() -> None:
    # 76 of the 80 are four bundles, one a class.
    manifest = replace(sound(), bundles=(*(index % 4 for index in range(76)), *range(76, 160)))
    (line, *_) = warnings(manifest)
    split = single_source(manifest)
    for count in (len(split.train), len(split.validation), len(split.tests.get("Caltech101", ()))):
        assert str(count) in line and f"{count / 80:.1%}" in line
    assert "'Caltech101'" in line and "60.0%/20.0%/20.0%" in line


def test_a_target_without_a_validation_part_is_told() -> None:
    manifest = make_manifest([*np.arange(80) % 4, 0, 1, 2, 3], [0] * 80 + [1] * 4)
    (line,) = warnings(manifest)
    assert "'LabelMe'" in line and "0 of 4" in line and "20.0%" in line
    # A search that sees no target is told nothing of them.
    assert split_warnings(manifest, single_source(manifest).without_tests(), 0.2, 0.2) == []


def test_classes_that_only_a_target_has_are_counted() -> None:
    labels = np.arange(160) % 4
    labels[:80] %= 3
    lines = warnings(make_manifest(labels, [0] * 80 + [1] * 80))
    assert len(lines) == 1 and "20 of 80" in lines[0] and "'class3' in domain 'LabelMe'" in lines[0]


def test_classes_that_only_the_source_has_are_counted() -> None:
    labels = np.arange(160) % 4
    labels[80:] %= 2
    lines = warnings(make_manifest(labels, [0] * 80 + [1] * 80))
    assert len(lines) == 1 and "2 classes" in lines[0] and "'class2'" in lines[0]


def test_a_class_that_no_selection_sees_is_told() -> None:
    manifest = make_manifest([*np.arange(160) % 4, 4, 4], [0] * 80 + [1] * 80 + [0, 1])
    assert [line for line in warnings(manifest) if "'class4'" in line and "validation" in line]


def test_copies_of_training_images_in_a_target_are_counted() -> None:
    manifest = sound()
    split = single_source(manifest)
    hashes = list(manifest.hashes)
    trained, validated, tested = int(split.train[5]), int(split.validation[0]), int(split.tests["Caltech101"][0])
    hashes[100], hashes[103], hashes[107] = hashes[trained], hashes[validated], hashes[tested]
    (line,) = split_warnings(replace(manifest, hashes=tuple(hashes)), split, 0.2, 0.2)
    assert line.startswith("2 of 80") and "'LabelMe'" in line and f"100.png = {trained}.png" in line


def test_copies_that_a_setting_lets_a_cut_go_through_are_counted() -> None:
    manifest = replace(sound(), hashes=tuple(str(index // 8) for index in range(160)))
    split = single_source(manifest, keep_together="off")
    trained = {manifest.hashes[index] for index in split.train}
    lines = split_warnings(manifest, split, 0.2, 0.2)
    count = sum(manifest.hashes[index] in trained for index in split.validation)
    assert count > 0 and lines[0].startswith(f"{count} of {len(split.validation)} validation")
    other_lines = split_warnings(manifest, single_source(manifest, keep_together="copies"), 0.2, 0.2)
    assert not [line for line in other_lines if "copies" in line]


def test_look_alikes_that_a_fixed_split_cuts_through_are_counted_and_stay() -> None:
    parts = ("train",) * 80 + ("validation", "test") * 40
    manifest = replace(make_manifest(np.arange(160) // 2 % 4, [0] * 160), parts=parts)
    protocol: dict[str, Any] = {"kind": "fixed", "source": None, "target": None, "seed": 0}
    fractions = {"validation_fraction": 0.2, "test_fraction": 0.2}
    assert fixed_warnings(manifest, make_split(manifest, **protocol, **fractions)) == []
    bundles = list(range(160))
    bundles[3] = bundles[91] = bundles[93] = 3
    cut = replace(manifest, bundles=tuple(bundles))
    split = make_split(cut, **protocol, **fractions)
    (line,) = fixed_warnings(cut, split)
    assert line.startswith("2 of 40") and "91.png and 3.png" in line and "\n" not in line
    assert {91, 93} <= set(split.tests["Caltech101"].tolist()) and 3 in split.train


def test_copies_in_another_benchmark_are_counted() -> None:
    manifest = sound()
    split = single_source(manifest)
    trained, tested = int(split.train[7]), int(split.tests["Caltech101"][0])
    other = replace(make_manifest([0, 1, 2, 3], [0] * 4), benchmark="elsewhere")
    strangers = replace(other, hashes=("w", "x", "y", manifest.hashes[tested]))
    assert copies_in_other_benchmark(manifest, split, strangers) == []
    (line,) = copies_in_other_benchmark(
        manifest, split, replace(other, hashes=("w", "x", manifest.hashes[trained], "z"))
    )
    assert line.startswith("1 of 4") and "elsewhere" in line and f"2.png = {trained}.png" in line


def test_tasks_without_a_meaning_are_refused() -> None:
    one = make_manifest([0] * 80, [0] * 40 + [1] * 40)
    with raises(DataError, "'class0'"):
        check_split(one, single_source(one))
    alone = make_manifest([*[0] * 40, *np.arange(40) % 2], [0] * 40 + [1] * 40)
    with raises(DataError, "'class0'"):
        check_split(alone, single_source(alone))
    strangers = make_manifest([*np.arange(40) % 2, *(2 + np.arange(40) % 2)], [0] * 40 + [1] * 40)
    with raises(DataError, "'LabelMe'"):
        check_split(strangers, single_source(strangers))
