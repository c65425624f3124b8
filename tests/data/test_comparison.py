"""A beton belongs to the tree, the masks and the storage that it was made of."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refusals import raises

from align_dist.config import BenchmarkConfig, parse_config
from align_dist.data.comparison import checked_manifest
from align_dist.data.manifest import manifest_path, read_manifest, with_fingerprint
from align_dist.data.prepare import prepare
from align_dist.errors import ConfigError, DataError
from align_dist.runs.folder import RunFolder

TREE = {"paint": {"cat": 3, "dog": 4}, "photo": {"cat": 5, "dog": 2}}


@pytest.fixture
def benchmark(tmp_path: Path, pictures: Any) -> BenchmarkConfig:
    described = BenchmarkConfig(name="folders", root=pictures(tmp_path / "one", TREE), betons=tmp_path / "betons")
    prepare(described)
    return described


def make_masks(root: Path, side: int = 40, value: int = 255) -> Path:
    """A mask for every picture of TREE: a square in a corner."""
    for domain, classes in TREE.items():
        for label, count in classes.items():
            (root / domain / label).mkdir(parents=True)
            for index in range(count):
                mask = np.zeros((side * 3 // 4, side), np.uint8)
                mask[: 5 + index, :10] = value
                Image.fromarray(mask).save(root / domain / label / f"{label}_{index:03d}.png")
    return root


@pytest.fixture
def masked(benchmark: BenchmarkConfig, tmp_path: Path) -> BenchmarkConfig:
    """The same pictures with masks, in a beton of their own."""
    update = {"masks": make_masks(tmp_path / "masks"), "betons": tmp_path / "masked"}
    described = benchmark.model_copy(update=update)
    prepare(described)
    return described


def assert_refused(benchmark: BenchmarkConfig, *parts: str) -> None:
    """Whoever uses the beton is told in one line, and the beton stays as it is."""
    before = benchmark.beton.read_bytes()
    for use in (checked_manifest, prepare):
        with raises(DataError, "--force", "benchmark.betons=FOLDER", *parts):
            use(benchmark)
    assert benchmark.beton.read_bytes() == before


def relabel(root: Path) -> None:
    (root / "photo" / "cat" / "cat_000.png").rename(root / "photo" / "dog" / "cat_000.png")


def add_many(root: Path) -> None:
    for index in range(20):
        shutil.copy(root / "photo" / "cat" / "cat_001.png", root / "photo" / "cat" / f"new_{index:02}.png")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (add_many, ["20 added (first photo/cat/new_00.png)"]),
        (lambda root: shutil.copytree(root / "photo", root / "sketch"), ["7 added (first sketch/cat/cat_000.png)"]),
        (lambda root: (root / "paint" / "dog" / "dog_002.png").unlink(), ["1 gone (first paint/dog/dog_002.png)"]),
        (
            lambda root: shutil.copy(root / "photo/cat/cat_001.png", root / "photo/cat/cat_002.png"),
            ["1 replaced (first photo/cat/cat_002.png)"],
        ),
        (relabel, ["1 gone (first photo/cat/cat_000.png)", "1 added (first photo/dog/cat_000.png)"]),
    ],
)
def test_a_changed_tree_is_refused_with_counts(
    benchmark: BenchmarkConfig, change: Callable[[Path], Any], parts: list[str]
) -> None:
    change(benchmark.root)
    assert_refused(benchmark, *parts)
    manifest = prepare(benchmark, force=True)
    assert checked_manifest(benchmark) == manifest


def test_other_bytes_of_the_same_length_are_noticed_by_their_hash(benchmark: BenchmarkConfig) -> None:
    path = benchmark.root / "photo" / "dog" / "dog_001.png"
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert path.stat().st_size == stat.st_size
    assert_refused(benchmark, "1 replaced (first photo/dog/dog_001.png)")


def test_a_new_class_in_every_domain_is_refused(benchmark: BenchmarkConfig) -> None:
    for domain in TREE:
        shutil.copytree(benchmark.root / domain / "cat", benchmark.root / domain / "lynx")
    assert_refused(benchmark, "8 added (first paint/lynx/cat_000.png)")


def test_another_tree_is_refused_where_the_names_are_the_same(
    benchmark: BenchmarkConfig, tmp_path: Path, pictures: Any
) -> None:
    before = checked_manifest(benchmark)
    copied = benchmark.model_copy(update={"root": shutil.copytree(benchmark.root, tmp_path / "copy")})
    assert checked_manifest(copied) == before
    other = benchmark.model_copy(update={"root": pictures(tmp_path / "two", TREE, side=48)})
    assert_refused(other, str(other.root), "14 replaced (first paint/cat/cat_000.png)")
    assert checked_manifest(benchmark) == before
    prepare(other, force=True)
    assert checked_manifest(other).paths == before.paths and checked_manifest(other).fingerprint != before.fingerprint


def test_touched_files_are_the_same_and_their_new_times_are_noted(benchmark: BenchmarkConfig) -> None:
    # Not its whole stat: reading moves the time of access.
    before, written = checked_manifest(benchmark), benchmark.beton.stat().st_mtime_ns
    for path in benchmark.root.rglob("*.png"):
        os.utime(path)
    assert checked_manifest(benchmark) == before
    noted = prepare(benchmark)
    assert noted.fingerprint == before.fingerprint and noted.stamps != before.stamps
    assert read_manifest(manifest_path(benchmark.beton)) == noted
    assert benchmark.beton.stat().st_mtime_ns == written


def test_an_unchanged_tree_is_there_already(benchmark: BenchmarkConfig) -> None:
    files = (benchmark.beton, manifest_path(benchmark.beton))
    before = [(path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    prepare(benchmark)
    assert [(path.stat().st_mtime_ns, path.stat().st_size) for path in files] == before


def test_a_beton_is_used_without_its_pictures(benchmark: BenchmarkConfig, tmp_path: Path) -> None:
    before = checked_manifest(benchmark)
    shutil.rmtree(benchmark.root)
    assert checked_manifest(benchmark) == before
    benchmark.root.mkdir()
    assert checked_manifest(benchmark) == before


def test_a_folder_within_the_root_is_found(tmp_path: Path, pictures: Any) -> None:
    locations = ("location_38", "location_43", "location_46", "location_100")
    tree = {location: {"cat": 2, "dog": 2} for location in locations}
    pictures(tmp_path / "above" / "terra_incognita", tree)
    described = BenchmarkConfig(name="terra_incognita", root=tmp_path / "above", betons=tmp_path / "betons")
    prepare(described)
    assert len(checked_manifest(described)) == 16
    (described.root / "terra_incognita" / "location_46" / "cat" / "cat_001.png").unlink()
    assert_refused(described, "1 gone (first location_46/cat/cat_001.png)")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [({"quality": 50}, ("quality", "90", "50")), ({"masks": Path("nowhere")}, ("masks", "nowhere"))],
)
@pytest.mark.parametrize("with_tree", [True, False])
def test_a_beton_of_other_storage_or_without_masks_is_refused(
    benchmark: BenchmarkConfig, changes: dict[str, Any], parts: tuple[str, ...], with_tree: bool
) -> None:
    if not with_tree:
        shutil.rmtree(benchmark.root)
    other = benchmark.model_copy(update=changes)
    assert other.beton == benchmark.beton
    with pytest.raises(DataError) as caught:
        checked_manifest(other)
    assert all(part in str(caught.value) for part in parts)


def test_quality_says_nothing_of_raw_pixels(benchmark: BenchmarkConfig) -> None:
    raw = benchmark.model_copy(update={"storage": "raw"})
    manifest = prepare(raw)
    assert checked_manifest(raw.model_copy(update={"quality": 50})) == manifest


@pytest.mark.parametrize("with_pictures_there", [True, False])
def test_other_masks_are_refused_and_touched_ones_are_not(
    masked: BenchmarkConfig, tmp_path: Path, with_pictures_there: bool
) -> None:
    before = checked_manifest(masked)
    if not with_pictures_there:
        shutil.rmtree(masked.root)
    copied = masked.model_copy(update={"masks": shutil.copytree(masked.masks, tmp_path / "copied")})
    for path in copied.masks.rglob("*.png"):
        os.utime(path)
    assert checked_manifest(copied) == before
    other = masked.model_copy(update={"masks": make_masks(tmp_path / "other", value=254)})
    assert_refused(other, "14 other masks (first ", str(tmp_path / "other" / "paint" / "cat" / "cat_000.png"))


def test_masks_are_part_of_the_digest_and_of_what_a_run_is(
    benchmark: BenchmarkConfig, masked: BenchmarkConfig, tmp_path: Path
) -> None:
    update = {"masks": make_masks(tmp_path / "other", value=254), "betons": tmp_path / "others"}
    other = masked.model_copy(update=update)
    prepare(other)
    runs = [parse_config({"benchmark": each.model_dump(mode="json")}) for each in (benchmark, masked, other)]
    named = [with_fingerprint(run) for run in runs]
    assert [run.benchmark.fingerprint for run in named] == [checked_manifest(run.benchmark).fingerprint for run in runs]
    assert len({run.identity for run in named}) == 3 == len({run.folder for run in named})
    twin = masked.model_copy(update={"betons": tmp_path / "again"})
    prepare(twin)
    assert checked_manifest(twin).fingerprint == checked_manifest(masked).fingerprint


def test_a_run_described_with_other_pictures_is_refused(benchmark: BenchmarkConfig, masked: BenchmarkConfig) -> None:
    described = benchmark.model_copy(update={"fingerprint": checked_manifest(masked).fingerprint})
    for compare in (True, False):
        with raises(DataError, "benchmark.fingerprint=null"):
            checked_manifest(described, compare=compare)
    run = parse_config({"benchmark": described.model_dump(mode="json")})
    assert with_fingerprint(run) == run


def test_a_run_whose_beton_is_not_there_yet_has_no_pictures(benchmark: BenchmarkConfig, tmp_path: Path) -> None:
    run = parse_config({"benchmark": {"betons": str(tmp_path / "none")}})
    assert with_fingerprint(run) == run
    manifest_path(benchmark.beton).write_text("torn {")
    torn = parse_config({"benchmark": benchmark.model_dump(mode="json")})
    assert with_fingerprint(torn) == torn


def test_pictures_left_out_as_unreadable_are_asked_for_and_looked_at(
    benchmark: BenchmarkConfig, tmp_path: Path
) -> None:
    broken = benchmark.root / "photo" / "cat" / "cat_002.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    skipping = benchmark.model_copy(update={"on_unreadable": "skip", "betons": tmp_path / "skipped"})
    manifest = prepare(skipping)
    os.utime(broken)
    assert checked_manifest(skipping) == manifest and len(manifest) == 13
    failing = skipping.model_copy(update={"on_unreadable": "fail"})
    assert_refused(failing, "1 left out as unreadable", "photo/cat/cat_002.png")
    broken.write_bytes(whole)
    assert_refused(skipping, "1 left out as unreadable and changed since (first photo/cat/cat_002.png)")


def test_annotations_that_changed_are_refused(tmp_path: Path) -> None:
    names = {"a": 38, "b": 43, "c": 46, "d": 100}

    def annotate(category: int, burst: str = "a") -> None:
        document = {
            "images": [
                {"id": name, "file_name": f"{name}.jpg", "location": place, "seq_id": f"{burst}{place}"}
                for name, place in names.items()
            ],
            "annotations": [{"image_id": name, "category_id": 1} for name in "abc"]
            + [{"image_id": "d", "category_id": category}]
            + [{"image_id": name, "category_id": 2} for name in "ab"],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        (tmp_path / "traps" / "train_annotations.json").write_text(json.dumps(document))

    (tmp_path / "traps").mkdir()
    for index, name in enumerate(names):
        Image.new("RGB", (40, 40), (index, 7, 9)).save(tmp_path / "traps" / f"{name}.jpg")
    annotate(1)
    described = BenchmarkConfig(name="terra_incognita", root=tmp_path / "traps", betons=tmp_path / "betons")
    prepare(described)
    annotate(2)
    assert_refused(described, "1 relabelled (first d.jpg)")
    annotate(1, burst="b")
    assert_refused(described, "4 of another burst (first ")


def test_a_run_on_other_pictures_is_not_taken_for_this_one(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path / "run"), parse_config({})
    folder.begin(config, 1, "a" * 16)
    folder.begin(config, 1, "a" * 16)
    with raises(ConfigError, tmp_path / "run", "experiment=NAME"):
        folder.begin(config, 1, "b" * 16)


def test_a_beton_with_masks_is_not_that_of_a_config_without(masked: BenchmarkConfig) -> None:
    assert_refused(masked.model_copy(update={"masks": None}), "masks", "benchmark.masks")


def test_two_images_never_share_a_mask(masked: BenchmarkConfig) -> None:
    image = next(masked.root.glob("paint/cat/*.png"))
    shutil.copy(image, image.with_suffix(".jpeg"))
    with raises(DataError, image.stem, "rename"):
        prepare(masked.model_copy(update={"betons": masked.betons / "again"}))
