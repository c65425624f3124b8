from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from refusals import raises

from align_dist.data.manifest import (
    VERSION,
    ImageField,
    Manifest,
    manifest_path,
    read_manifest,
    write_manifest,
)
from align_dist.errors import DataError

MANIFEST = Manifest(
    version=VERSION,
    benchmark="folders",
    classes=("cat", "dog"),
    domains=("paint", "photo"),
    image_field=ImageField("jpg", 160, 90),
    has_masks=False,
    beton_bytes=12,
    beton_sha256="ab" * 32,
    paths=("paint/cat/ä.jpg", "photo/dog/\udcff.jpg"),
    hashes=("01" * 32, "02" * 32),
    labels=(0, 1),
    domain_indices=(0, 1),
    bundles=(0, 1),
    skipped=(),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = manifest_path(tmp_path / "some.beton")
    write_manifest(MANIFEST, path)
    assert path.name == "some.beton.json"
    assert read_manifest(path) == MANIFEST
    assert [entry.name for entry in tmp_path.iterdir()] == ["some.beton.json"]


def test_groups_and_parts_are_kept_and_without_them_pictures_have_the_name_they_always_had(tmp_path: Path) -> None:
    # As the program that knew neither groups nor parts named these pictures.
    assert MANIFEST.fingerprint == "4da64eef669076aa"
    grouped = replace(
        MANIFEST, group_names=("cat indoors", "dog indoors"), group_indices=(0, 1), parts=("train", "test")
    )
    write_manifest(grouped, tmp_path / "m.json")
    assert read_manifest(tmp_path / "m.json") == grouped
    assert grouped.group_of(1) == "dog indoors" and grouped.part_of(1) == "test"
    others = [replace(grouped, group_indices=(1, 0)), replace(grouped, parts=("test", "test")), MANIFEST]
    assert grouped.fingerprint not in [other.fingerprint for other in others]


def test_a_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with raises(DataError, tmp_path / "x.json"):
        read_manifest(tmp_path / "x.json")


@pytest.mark.parametrize("length", [0, 1, 40, 400])
def test_a_truncated_manifest_is_damaged(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.json"
    write_manifest(MANIFEST, path)
    path.write_bytes(path.read_bytes()[:length])
    with raises(DataError, path, "--force"):
        read_manifest(path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"manifest": 3, "digest": ""}', '{"manifest": {}}'])
def test_other_json_is_damaged(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(content)
    with raises(DataError, path):
        read_manifest(path)


def test_a_changed_label_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    write_manifest(MANIFEST, path)
    document = json.loads(path.read_text())
    document["manifest"]["labels"] = [1, 1]
    path.write_text(json.dumps(document))
    with raises(DataError, path):
        read_manifest(path)


def test_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    write_manifest(replace(MANIFEST, version=VERSION + 1), path)
    with raises(DataError, path, VERSION + 1, VERSION):
        read_manifest(path)
