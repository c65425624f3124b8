from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from refusals import raises

from align_dist.data.benchmarks import read_benchmark
from align_dist.data.catalogue import Catalogue
from align_dist.data.terra import read_annotations, read_terra_json
from align_dist.errors import DataError

CATEGORIES = [
    {"id": 1, "name": "opossum"},
    {"id": 16, "name": "cat"},
    {"id": 30, "name": "empty"},
    {"id": 33, "name": "car"},
]


def _write(root: Path, name: str, images: list[dict[str, Any]], boxes: list[tuple[str, int]]) -> Path:
    annotations = [
        {"id": f"{name}{number}", "image_id": image, "category_id": category}
        for number, (image, category) in enumerate(boxes)
    ]
    root.mkdir(parents=True, exist_ok=True)
    path = root / name
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return path


def _image(name: str, location: int | str, sequence: str = "s") -> dict[str, Any]:
    return {"id": name, "file_name": f"{name}.jpg", "location": location, "seq_id": sequence}


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    """Two files as CCT-20 has them; locations as int in one and as str in the other."""
    root = tmp_path / "traps"
    _write(
        root / "eccv_18_annotation_files",
        "train_annotations.json",
        [
            _image("a", 38, "s1"),
            _image("b", 38, "s1"),
            _image("c", 33),
            _image("d", 43, "s2"),
            _image("e", 43),
        ],
        [("a", 1), ("a", 1), ("b", 1), ("b", 16), ("c", 1), ("d", 16), ("e", 33)],
    )
    _write(
        root / "eccv_18_annotation_files",
        "cis_val_annotations.json",
        [_image("f", "43", "s3"), _image("gone", 100)],
        [("f", 1), ("f", 33), ("gone", 30)],
    )
    for name in "abcdef":
        _picture(root / "eccv_18_all_images_sm" / ("sub" if name == "f" else ".") / f"{name}.jpg")
    return root


def test_annotations_become_samples_as_domainbed_makes_them(traps: Path) -> None:
    catalogue = read_terra_json(traps)
    rows = [(s.domain, s.label, s.path.stem, s.sequence) for s in catalogue.samples]
    assert rows == [
        ("location_38", "cat", "b", "s1"),  # b shows two species: a sample of each
        ("location_38", "opossum", "a", "s1"),  # a has two boxes of one species: one sample
        ("location_38", "opossum", "b", "s1"),
        ("location_43", "cat", "d", "s2"),
        ("location_43", "opossum", "f", "s3"),  # in a subfolder; its car is none of the ten
    ]
    assert passed_over(catalogue) == {
        "annotated, and not on disk": (1, "gone.jpg"),
        "not in the ten classes and four locations": (2, "eccv_18_all_images_sm/c.jpg"),
    }
    assert catalogue == read_benchmark("terra_incognita", traps)


def passed_over(catalogue: Catalogue) -> dict[str, tuple[int, str]]:
    return {entry.reason: (entry.count, entry.first) for entry in catalogue.passed_over}


def test_linked_folders_are_followed_once_each_and_never_in_a_circle(traps: Path, tmp_path: Path) -> None:
    before = read_terra_json(traps)
    target = tmp_path / "elsewhere"
    (traps / "eccv_18_all_images_sm").rename(target)
    (target / "sub" / "up").symlink_to(target)
    root = tmp_path / "linked"
    root.mkdir()
    (traps / "eccv_18_annotation_files").rename(root / "eccv_18_annotation_files")
    for name in ("eccv_18_all_images_sm", "the same again"):
        (root / name).symlink_to(target)
    (root / "circle").symlink_to(root)
    linked = read_terra_json(root)
    assert [sample.path.relative_to(root) for sample in linked.samples] == [
        sample.path.relative_to(traps) for sample in before.samples
    ]
    assert passed_over(linked) == passed_over(before)


def test_what_a_mac_leaves_beside_the_annotations_does_no_harm(traps: Path) -> None:
    before = read_terra_json(traps)
    (traps / "eccv_18_annotation_files" / "._train_annotations.json").write_bytes(b"\0\5\x16\7")
    (traps / "eccv_18_all_images_sm" / "._a.jpg").write_bytes(b"\0\5\x16\7")
    after = read_terra_json(traps)
    assert after.samples == before.samples
    assert passed_over(after) == passed_over(before) | {"hidden": (1, "eccv_18_all_images_sm/._a.jpg")}


def test_a_second_picture_of_one_name_and_a_dangling_one_are_counted(traps: Path) -> None:
    folder = traps / "eccv_18_all_images_sm"
    _picture(folder / "sub" / "a.jpg")
    (folder / "b.jpg").unlink()
    (folder / "b.jpg").symlink_to("nowhere.jpg")
    reasons = passed_over(read_terra_json(traps))
    assert reasons["with the same name as another image"] == (1, "eccv_18_all_images_sm/sub/a.jpg")
    assert reasons["annotated, and not on disk"] == (2, "b.jpg")


def test_pictures_may_lie_beside_the_annotations(tmp_path: Path) -> None:
    _write(tmp_path, "caltech_images_20210113.json", [_image("a", "38")], [("a", 1)])
    _picture(tmp_path / "a.jpg")
    assert [sample.path for sample in read_terra_json(tmp_path).samples] == [tmp_path / "a.jpg"]


def test_folders_win_over_annotations(traps: Path) -> None:
    for location in (38, 43, 46, 100):
        _picture(traps / "terra_incognita" / f"location_{location}" / "cat" / "x.jpg")
    assert len(read_benchmark("terra_incognita", traps).samples) == 4


def test_no_picture_on_disk_is_an_error(traps: Path) -> None:
    for path in traps.rglob("*.jpg"):
        path.unlink()
    with raises(DataError, 5):
        read_terra_json(traps)


@pytest.mark.parametrize("content", ["{", "[]", '{"images": [], "categories": []}', '{"images": 3}'])
def test_a_damaged_annotation_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "train_annotations.json").write_text(content)
    with raises(DataError, tmp_path / "train_annotations.json"):
        read_terra_json(tmp_path)


@pytest.mark.skipif("ALIGN_DIST_SHARED" not in os.environ, reason="real CCT-20: set ALIGN_DIST_SHARED")
def test_the_real_annotations_give_the_same_images_as_a_search_through_them(tmp_path: Path) -> None:
    folder = Path(os.environ["ALIGN_DIST_SHARED"]) / "data" / "cct20_sample"
    path = folder / "cis_val_annotations.json"
    document = json.loads(path.read_text())
    counts = Counter(str(image["location"]) for image in document["images"])
    assert (counts["38"], counts["43"]) == (799, 520)
    names = {category["id"]: category["name"] for category in document["categories"]}
    listed: dict[str, set[str]] = {}
    for box in document["annotations"]:
        listed.setdefault(box["image_id"], set()).add(names[box["category_id"]])
    images = {image.file_name: image for image in read_annotations([path])}
    left_out = {"skunk", "rodent", "badger", "deer", "car", "fox"}
    for image in document["images"]:
        species = listed.get(image["id"], set()) - left_out
        if image["location"] in (38, 43, 46, 100) and species:
            assert images.pop(image["file_name"]).labels == tuple(sorted(species))
    assert not images
    with raises(DataError):
        read_terra_json(folder)
