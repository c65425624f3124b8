"""Groups and parts: from a CSV beside folders, and from Waterbirds' own."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refusals import raises

from align_dist.config import AugmentationConfig, BenchmarkConfig
from align_dist.data.benchmarks import count_warnings, read_benchmark
from align_dist.data.comparison import checked_manifest
from align_dist.data.loader import Loader
from align_dist.data.prepare import prepare
from align_dist.data.sample_keys import unaugmented
from align_dist.errors import DataError

TREE = {"farm": {"cow": 3, "dog": 3}}
NAMES = [f"farm/{label}/{label}_{index:03d}.png" for label in ("cow", "dog") for index in range(3)]
ATTRIBUTES = ["on grass", "on sand", "on grass", "on sand", "on sand", "on grass"]
PARTS = ["train", "validation", "test", "train", "validation", "test"]


def write_csv(path: Path, columns: list[str], lines: list[list[str]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *lines])
    return path


@pytest.fixture
def root(tmp_path: Path, pictures: Any) -> Path:
    folder: Path = pictures(tmp_path / "data", TREE)
    return folder


def listed() -> list[list[str]]:
    return [list(line) for line in zip(NAMES, ATTRIBUTES, PARTS, strict=True)]


def test_a_csv_names_groups_and_parts_in_any_order_of_lines(root: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["image", "attribute", "split"], listed()[::-1])
    catalogue = read_benchmark("folders", root, metadata=path)
    assert [sample.group for sample in catalogue.samples] == [
        f"{label} {attribute}" for label, attribute in zip(["cow"] * 3 + ["dog"] * 3, ATTRIBUTES, strict=True)
    ]
    assert [sample.part for sample in catalogue.samples] == PARTS
    assert catalogue.groups == ("cow on grass", "cow on sand", "dog on grass", "dog on sand")


@pytest.mark.parametrize(("column", "values"), [("attribute", ATTRIBUTES), ("split", PARTS)])
def test_a_csv_of_one_of_the_two_leaves_the_other_out(
    root: Path, tmp_path: Path, column: str, values: list[str]
) -> None:
    lines = [list(line) for line in zip(values, NAMES, strict=True)]
    catalogue = read_benchmark("folders", root, metadata=write_csv(tmp_path / "m.csv", [column, "image"], lines))
    assert (catalogue.groups != ()) == (column == "attribute")
    assert [sample.part for sample in catalogue.samples] == (PARTS if column == "split" else [None] * 6)


def replaced(number: int, line: list[str]) -> list[list[str]]:
    lines = listed()
    lines[number] = line
    return lines


@pytest.mark.parametrize(
    ("columns", "lines", "names"),
    [
        (["picture", "attribute", "split"], listed(), ["line 1", "image", "attribute"]),
        (["image", "place", "part"], listed(), ["line 1", "attribute", "split"]),
        (["image", "attribute", "split"], [], []),
        (["image", "attribute", "split"], listed()[1:], [NAMES[0], "1 of 6"]),
        (["image", "attribute", "split"], [*listed(), listed()[2]], ["line 8", NAMES[2], "line 4"]),
        (
            ["image", "attribute", "split"],
            replaced(3, ["farm/dog/dog_0.png", "x", "test"]),
            ["line 5", "dog_0.png"],
        ),
        (["image", "attribute", "split"], replaced(1, [NAMES[1], "", "test"]), ["line 3", "attribute"]),
        (["image", "attribute", "split"], replaced(5, [NAMES[5], "x", "tst"]), ["line 7", "'tst'", "validation"]),
        (["image", "attribute", "split"], replaced(4, [NAMES[4], "x"]), ["line 6", "3 values"]),
        (["image", "attribute", "split"], replaced(4, [NAMES[4], "x", "y", "z"]), ["line 6", "3 values"]),
    ],
)
def test_a_wrong_csv_is_one_line_with_file_line_and_remedy(
    root: Path, tmp_path: Path, columns: list[str], lines: list[list[str]], names: list[str]
) -> None:
    path = write_csv(tmp_path / "m.csv", columns, lines)
    with raises(DataError, path, *names):
        read_benchmark("folders", root, metadata=path)


def test_what_is_no_csv_is_one_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"image,split\nfarm/cow/b\xe9.png,train\n")
    for path in (tmp_path / "latin.csv", tmp_path / "absent.csv"):
        with raises(DataError, path):
            read_benchmark("folders", root, metadata=path)


def test_groups_are_in_the_beton_and_in_batches_and_a_changed_csv_is_refused(root: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["image", "attribute", "split"], listed())
    benchmark = BenchmarkConfig(name="folders", root=root, metadata=path, betons=tmp_path / "betons", storage="raw")
    manifest = prepare(benchmark)
    assert manifest.group_names == ("cow on grass", "cow on sand", "dog on grass", "dog on sand")
    assert manifest.group_indices == (0, 1, 0, 3, 3, 2) and manifest.parts == tuple(PARTS)
    loader = Loader(benchmark.beton, 32, 0, AugmentationConfig(), workers=1)
    assert loader.groups is not None and loader.groups.tolist() == [0, 1, 0, 3, 3, 2]
    (batch,) = loader.batches_of(unaugmented(np.array([5, 0, 3, 1])), 4)
    assert batch.groups is not None and batch.groups.tolist() == [2, 0, 3, 1]
    halves = [part.groups.tolist() for part in batch.parts(2) if part.groups is not None]
    assert halves == [[2, 3], [0, 1]]
    write_csv(path, ["image", "attribute", "split"], replaced(1, [NAMES[1], "on grass", "test"]))
    with raises(DataError, "1 of another group", "1 of another part"):
        checked_manifest(benchmark)


def test_a_beton_without_what_the_csv_says_is_refused_also_without_its_pictures(root: Path, tmp_path: Path) -> None:
    plain = BenchmarkConfig(name="folders", root=root, betons=tmp_path / "betons", storage="raw")
    assert prepare(plain).group_names == ()
    loader = Loader(plain.beton, 32, 0, AugmentationConfig(), workers=1)
    (batch,) = loader.batches_of(unaugmented(np.arange(6)), 6)
    assert loader.groups is None and batch.groups is None
    path = write_csv(tmp_path / "m.csv", ["image", "split"], [[line[0], line[2]] for line in listed()])
    for there in (root, tmp_path / "nowhere"):
        with raises(DataError, "--force"):
            checked_manifest(plain.model_copy(update={"metadata": path, "root": there}))


def make_waterbirds(folder: Path) -> list[list[str]]:
    lines = []
    for number, (y, split, place) in enumerate(((1, 2, 0), (0, 0, 0), (0, 1, 1), (1, 0, 1)), 1):
        name = f"00{number}.Bird/Bird_{number}.jpg"
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(np.full((20, 30, 3), 40 * number, np.uint8)).save(folder / name)
        lines.append([str(number), name, str(y), str(split), str(place), "/o/ocean/1.jpg"])
    return lines


COLUMNS = ["img_id", "img_filename", "y", "split", "place", "place_filename"]


@pytest.mark.parametrize("inside", ["waterbirds_v1.0", "."])
def test_waterbirds_has_groups_of_class_and_place_and_its_own_parts(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / inside
    write_csv(folder / "metadata.csv", COLUMNS, make_waterbirds(folder))
    Image.new("RGB", (8, 8)).save(folder / "stray.png")
    catalogue = read_benchmark("waterbirds", tmp_path)
    assert catalogue.domains == ("waterbirds",) and catalogue.classes == ("landbird", "waterbird")
    assert [(sample.path.name, sample.group, sample.part) for sample in catalogue.samples] == [
        ("Bird_2.jpg", "landbird on land", "train"),
        ("Bird_3.jpg", "landbird on water", "validation"),
        ("Bird_1.jpg", "waterbird on land", "test"),
        ("Bird_4.jpg", "waterbird on water", "train"),
    ]
    assert [entry.first for entry in catalogue.passed_over] == ["stray.png"]
    assert len(count_warnings(catalogue)) == 12


@pytest.mark.parametrize(
    ("column", "value", "names"),
    [
        (1, "001.Bird/none.jpg", ["none.jpg", "1 of the 4"]),
        (2, "2", ["line 2", "y '2'"]),
        (3, "3", ["line 2", "split '3'"]),
        (4, "", ["line 2", "place ''"]),
    ],
)
def test_wrong_waterbirds_are_one_line(tmp_path: Path, column: int, value: str, names: list[str]) -> None:
    lines = make_waterbirds(tmp_path)
    lines[0][column] = value
    write_csv(tmp_path / "metadata.csv", COLUMNS, lines)
    with raises(DataError, *names):
        read_benchmark("waterbirds", tmp_path)


@pytest.mark.skipif("ALIGN_DIST_SHARED" not in os.environ, reason="real Waterbirds: set ALIGN_DIST_SHARED")
def test_the_real_waterbirds_are_read_whole() -> None:
    catalogue = read_benchmark("waterbirds", Path(os.environ["ALIGN_DIST_SHARED"]) / "data")
    assert len(catalogue.samples) == 11_788 and count_warnings(catalogue) == ()
    counts = Counter(sample.group for sample in catalogue.samples if sample.part == "train")
    assert counts == {
        "landbird on land": 3_498, "landbird on water": 184, "waterbird on land": 56, "waterbird on water": 1_057,
    }  # fmt: skip
