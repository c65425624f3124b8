from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from refusals import raises

from align_dist.data.benchmarks import READERS, count_warnings, read_benchmark
from align_dist.data.counts import VLCS_CLASSES, VLCS_COUNTS
from align_dist.errors import ConfigError, DataError

TWO = {"paint": {"cat": 2, "dog": 3}, "photo": {"cat": 1, "dog": 2}}


def test_folders_are_read_sorted_whatever_the_disk_order(tmp_path: Path, pictures: Any) -> None:
    pictures(tmp_path, {"photo": {"dog": 2, "cat": 1}, "paint": {"dog": 3, "cat": 2}})
    catalogue = read_benchmark("folders", tmp_path)
    assert catalogue.domains == ("paint", "photo")
    assert catalogue.classes == ("cat", "dog")
    keys = [(sample.domain, sample.label, sample.path.name) for sample in catalogue.samples]
    assert keys == sorted(keys) and len(keys) == 8
    assert all(sample.path.parent == tmp_path / sample.domain / sample.label for sample in catalogue.samples)


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lambda root: shutil.rmtree(root), []),
        (lambda root: (root / "empty_domain").mkdir(), ["empty_domain"]),
        (lambda root: (root / "photo" / "bird").mkdir(), ["photo/bird"]),
        (
            lambda root: shutil.copytree(root / "photo" / "cat", root / "photo" / "bird"),
            ["'bird'", "'photo'"],
        ),
    ],
)
def test_unusable_folders_are_named_in_one_line(tmp_path: Path, pictures: Any, damage: Any, names: list[str]) -> None:
    root = pictures(tmp_path / "data", TWO)
    damage(root)
    with raises(DataError, root, *names):
        read_benchmark("folders", root)


def test_a_class_may_be_absent_from_some_of_the_domains(tmp_path: Path, pictures: Any) -> None:
    pictures(tmp_path, {"a": {"cat": 1, "dog": 1}, "b": {"cat": 1, "dog": 1}, "c": {"cat": 1}})
    assert len(read_benchmark("folders", tmp_path).samples) == 5


def test_one_domain_alone_may_have_any_classes(tmp_path: Path, pictures: Any) -> None:
    pictures(tmp_path, {"only": {"cat": 1, "dog": 1}})
    assert read_benchmark("folders", tmp_path).domains == ("only",)


def test_masks_lie_in_a_parallel_tree_and_a_missing_one_is_named(tmp_path: Path, pictures: Any) -> None:
    root = pictures(tmp_path / "images", TWO, suffix=".jpg")
    masks = pictures(tmp_path / "masks", TWO)
    catalogue = read_benchmark("folders", root, masks)
    first = catalogue.samples[0]
    assert first.mask == masks / "paint" / "cat" / "cat_000.png"
    assert first.mask is not None
    first.mask.unlink()
    with raises(DataError, "cat_000.jpg", "1 of 8"):
        read_benchmark("folders", root, masks)


@pytest.mark.parametrize("name", ["vlcs", "pacs", "terra_incognita", "waterbirds"])
def test_missing_data_says_where_to_get_it_and_where_to_put_it(tmp_path: Path, name: str) -> None:
    with raises(DataError, tmp_path, "wilds" if name == "waterbirds" else "DomainBed"):
        read_benchmark(name, tmp_path)


def test_an_unknown_benchmark_names_the_nearest(tmp_path: Path) -> None:
    with raises(ConfigError, "'vlcs'"):
        read_benchmark("vlc", tmp_path)
    assert set(READERS) == {"vlcs", "terra_incognita", "pacs", "folders", "embedded", "waterbirds"}


def _touch_vlcs(root: Path) -> None:
    for domain, row in VLCS_COUNTS.items():
        for label, count in zip(VLCS_CLASSES, row, strict=True):
            folder = root / domain / label
            folder.mkdir(parents=True)
            for index in range(count):
                (folder / f"{index}.jpg").touch()


@pytest.mark.parametrize("inside", ["VLCS", "."])
def test_a_complete_vlcs_has_no_count_warnings_and_a_short_one_has_one_line(tmp_path: Path, inside: str) -> None:
    root = tmp_path / inside
    _touch_vlcs(root)
    catalogue = read_benchmark("vlcs", tmp_path)
    assert len(catalogue.samples) == 10_729
    assert count_warnings(catalogue) == ()
    for index in range(99):
        (root / "VOC2007" / "person" / f"{index}.jpg").unlink()
    assert count_warnings(read_benchmark("vlcs", tmp_path)) == (
        "VLCS/VOC2007 person: 1,400 images, DomainBed's copy has 1,499",
    )
    shutil.rmtree(root / "SUN09")
    with raises(DataError, "SUN09"):
        read_benchmark("vlcs", tmp_path)


@pytest.mark.skipif("ALIGN_DIST_SHARED" not in os.environ, reason="real PACS: set ALIGN_DIST_SHARED")
def test_the_real_pacs_is_read_whole() -> None:
    catalogue = read_benchmark("pacs", Path(os.environ["ALIGN_DIST_SHARED"]) / "data")
    assert len(catalogue.samples) == 9_991
    assert catalogue.domains == ("art_painting", "cartoon", "photo", "sketch")
    assert catalogue.classes == ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    assert count_warnings(catalogue) == ()
