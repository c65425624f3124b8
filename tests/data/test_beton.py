from __future__ import annotations

import io
import itertools
import os
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refusals import raises

from align_dist.data.benchmarks import read_benchmark
from align_dist.data.beton import prepare_beton, verify_beton
from align_dist.data.manifest import manifest_path
from align_dist.data.pixels import decode_image
from align_dist.errors import DataError, StorageError

TREE = {"paint": {"cat": 3, "dog": 4}, "photo": {"cat": 5, "dog": 2}}


def stored(path: Path) -> tuple[Any, Any]:
    """FFCV's own reader's table of samples, and a function giving a field's stored bytes."""
    import torch  # noqa: F401
    from ffcv.reader import Reader

    reader = Reader(str(path))
    names = reader.field_names
    table = {name: reader.metadata[f"f{index}"] for index, name in enumerate(names)}
    content = path.read_bytes()
    sizes = {int(row["ptr"]): int(row["size"]) for row in reader.alloc_table}

    def read(field: str, index: int) -> bytes:
        start = int(table[field][index]["data_ptr"])
        return content[start : start + sizes[start]]

    return table, read


@pytest.fixture
def folder(tmp_path: Path, pictures: Any) -> Path:
    root: Path = pictures(tmp_path / "data", TREE)
    return root


@pytest.fixture
def beton(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "out" / "small.beton"
    prepare_beton(read_benchmark("folders", folder), path, max_side=64, mode="raw", workers=2)
    return path


def test_a_raw_beton_holds_every_pixel_label_and_domain_in_order(folder: Path, beton: Path) -> None:
    catalogue, manifest = read_benchmark("folders", folder), verify_beton(beton)
    table, read = stored(beton)
    assert list(table) == ["image", "label", "domain", "sample"]
    assert len(manifest) == len(catalogue.samples) == len(table["label"]) == 14
    for index, sample in enumerate(catalogue.samples):
        assert manifest.paths[index] == sample.path.relative_to(folder).as_posix()
        assert manifest.classes[int(table["label"][index].item())] == sample.label
        assert manifest.domains[int(table["domain"][index].item())] == sample.domain
        assert int(table["sample"][index].item()) == index
        pixels = np.frombuffer(read("image", index), np.uint8).reshape(30, 40, 3)
        assert np.array_equal(pixels, np.asarray(Image.open(sample.path)))
    assert manifest.bundles == tuple(range(14)) and manifest.skipped == () and not manifest.has_masks
    assert sorted(path.name for path in beton.parent.iterdir()) == ["small.beton", "small.beton.json"]


def test_a_jpg_beton_holds_small_upright_jpegs(tmp_path: Path, pictures: Any) -> None:
    root = pictures(tmp_path / "data", {"only": {"cat": 1}}, side=200, suffix=".jpg")
    path = root / "only" / "cat" / "cat_000.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate a quarter turn to show
    Image.open(path).save(path, quality=95, exif=exif)
    destination = tmp_path / "a.beton"
    prepare_beton(read_benchmark("folders", root), destination, max_side=100, mode="jpg", workers=1)
    _, read = stored(destination)
    picture = Image.open(io.BytesIO(read("image", 0)))
    assert picture.format == "JPEG" and picture.size == (75, 100)
    expected = Image.open(path).transpose(Image.Transpose.ROTATE_270).resize((75, 100), Image.Resampling.BOX)
    difference = np.asarray(picture, dtype=float) - np.asarray(expected, dtype=float)
    assert np.abs(difference).mean() < 4


def test_masks_are_stored_with_the_geometry_of_their_images(tmp_path: Path, pictures: Any) -> None:
    root = pictures(tmp_path / "images", TREE, side=80)
    masks = tmp_path / "masks"
    for sample in read_benchmark("folders", root).samples:
        path = masks / sample.domain / sample.label / f"{sample.path.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((60, 80), dtype=np.uint8)
        mask[:, 40:] = 255
        Image.fromarray(mask).save(path)
    catalogue = read_benchmark("folders", root, masks)
    destination = tmp_path / "m.beton"
    assert prepare_beton(catalogue, destination, max_side=40, mode="jpg", workers=2).has_masks
    table, read = stored(destination)
    for index in range(14):
        pixels = np.frombuffer(read("mask", index), np.uint8).reshape(30, 40, 3)
        assert (pixels[:, :20] == 0).all() and (pixels[:, 20:] == 255).all()
        assert table["image"][index]["width"] == 40 and table["image"][index]["height"] == 30
    Image.new("L", (80, 61)).save(path)
    with raises(DataError, "80x61", "80x60"):
        prepare_beton(catalogue, destination, max_side=40, mode="jpg", workers=2)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "text": b"no picture" * 9}[how])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
def test_an_unreadable_picture_is_named_or_skipped(tmp_path: Path, pictures: Any, how: str, suffix: str) -> None:
    root = pictures(tmp_path / "data", TREE, suffix=suffix)
    damage(root / "photo" / "cat" / f"cat_002{suffix}", how)
    catalogue = read_benchmark("folders", root)
    destination = tmp_path / "out" / "a.beton"
    with raises(DataError, f"cat_002{suffix}", "1 of 14", "benchmark.on_unreadable=skip") as caught:
        prepare_beton(catalogue, destination, max_side=64, mode="raw")
    assert "object at" not in str(caught.value)
    assert not destination.parent.exists()
    manifest = prepare_beton(catalogue, destination, max_side=64, mode="raw", on_unreadable="skip")
    assert manifest.skipped == (f"photo/cat/cat_002{suffix}",)
    assert len(manifest) == 13 and manifest.skipped[0] not in manifest.paths
    table, _ = stored(destination)
    assert table["sample"].astype(int).tolist() == list(range(13))


def test_only_unreadable_pictures_are_an_error_even_when_skipping(tmp_path: Path, pictures: Any) -> None:
    root = pictures(tmp_path / "data", {"only": {"cat": 5}})
    for path in (root / "only" / "cat").iterdir():
        path.write_bytes(b"")
    with raises(DataError, "5 of 5", "2 more"):
        prepare_beton(
            read_benchmark("folders", root),
            tmp_path / "a.beton",
            max_side=64,
            mode="raw",
            on_unreadable="skip",
        )


def test_a_mask_that_changes_meanwhile_is_named_and_nothing_is_written(
    folder: Path, tmp_path: Path, pictures: Any
) -> None:
    masks = pictures(tmp_path / "masks", TREE)
    for path in masks.rglob("*.png"):
        Image.open(path).convert("1").save(path)
    touched, destination, over = masks / "photo" / "cat" / "cat_001.png", tmp_path / "out" / "a.beton", Event()

    def touch() -> None:
        for number in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
            os.utime(touched, ns=(number, number))

    thread = Thread(target=touch)
    thread.start()
    try:
        with raises(DataError, "cat_001.png"):
            prepare_beton(read_benchmark("folders", folder, masks), destination, max_side=64, mode="raw")
    finally:
        over.set()
        thread.join()
    assert list(destination.parent.iterdir()) == []


def test_copies_and_bursts_of_one_domain_share_a_bundle(folder: Path, tmp_path: Path) -> None:
    original = folder / "photo" / "cat" / "cat_000.png"
    Image.open(original).save(folder / "photo" / "dog" / "zz_near.jpg", quality=80)
    (folder / "photo" / "cat" / "zz_copy.png").write_bytes(original.read_bytes())
    (folder / "paint" / "cat" / "zz_copy.png").write_bytes(original.read_bytes())
    manifest = prepare_beton(read_benchmark("folders", folder), tmp_path / "a.beton", max_side=64, mode="raw")
    bundle = dict(zip(manifest.paths, manifest.bundles, strict=True))
    first = manifest.paths.index("photo/cat/cat_000.png")
    assert bundle["photo/cat/cat_000.png"] == first
    assert bundle["photo/cat/zz_copy.png"] == bundle["photo/dog/zz_near.jpg"] == first
    assert bundle["paint/cat/zz_copy.png"] == manifest.paths.index("paint/cat/zz_copy.png")
    assert len(set(manifest.bundles)) == 15


def test_a_truncated_beton_is_found_by_its_size(beton: Path) -> None:
    with beton.open("r+b") as stream:
        stream.truncate(beton.stat().st_size - 1)
    for quick in (True, False):
        with raises(DataError, beton, "align-dist data prepare CONFIG --force"):
            verify_beton(beton, quick=quick)


@pytest.mark.parametrize("position", [0.0, 0.5, 0.999])
def test_one_changed_byte_is_found_by_the_full_check(beton: Path, position: float) -> None:
    content = bytearray(beton.read_bytes())
    content[int(position * len(content))] ^= 1
    beton.write_bytes(content)
    verify_beton(beton, quick=True)
    with raises(DataError, beton):
        verify_beton(beton)


def test_a_missing_beton_or_manifest_says_how_to_make_it(beton: Path) -> None:
    manifest_path(beton).unlink()
    with raises(DataError, manifest_path(beton), "data prepare"):
        verify_beton(beton, quick=True)
    beton.unlink()
    with raises(DataError, beton, "data prepare"):
        verify_beton(beton)


def test_a_failed_second_preparation_leaves_the_first_intact(folder: Path, beton: Path) -> None:
    before = verify_beton(beton)
    damage(folder / "photo" / "cat" / "cat_002.png", "truncated")
    with pytest.raises(DataError):
        prepare_beton(read_benchmark("folders", folder), beton, max_side=64, mode="raw")
    assert verify_beton(beton) == before


def test_a_destination_under_a_file_is_a_storage_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises(StorageError, tmp_path / "file"):
        prepare_beton(read_benchmark("folders", folder), tmp_path / "file" / "a.beton", max_side=64, mode="raw")


def test_decoding_shrinks_the_longer_side_and_never_enlarges() -> None:
    stream = io.BytesIO()
    Image.new("L", (300, 2)).save(stream, "PNG")
    assert decode_image(stream.getvalue(), 100).shape == (1, 100, 3)
    assert decode_image(stream.getvalue(), 500).shape == (2, 300, 3)
