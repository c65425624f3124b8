from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import raises
from sklearn.datasets import load_digits

from align_dist.config import parse_config
from align_dist.data.benchmarks import count_warnings, read_benchmark
from align_dist.data.catalogue import Catalogue
from align_dist.data.comparison import checked_manifest
from align_dist.data.embedded import background_class, digit_instances, make_embedded
from align_dist.data.prepare import prepare
from align_dist.data.scenes import compose
from align_dist.errors import ConfigError, DataError, StorageError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded") / "benchmark"


@pytest.fixture(scope="module")
def catalogue(root: Path) -> Catalogue:
    return read_benchmark("embedded", root)


def test_every_digit_is_where_it_should_be(catalogue: Catalogue) -> None:
    target = load_digits().target
    stems: dict[str, set[str]] = {domain: set() for domain in catalogue.domains}
    for sample in catalogue.samples:
        assert target[int(sample.path.stem.split("_")[1])] == int(sample.label)
        stems[sample.domain].add(sample.path.stem)
    assert catalogue.domains == ("biased", "novel", "reversed", "shuffled")
    assert len(catalogue.samples) == 1200 + 3 * 597
    assert stems["novel"] == stems["reversed"] == stems["shuffled"]
    assert not stems["biased"] & stems["novel"]
    assert len(stems["biased"] | stems["novel"]) == 1797
    assert count_warnings(catalogue) == ()


def test_masks_are_one_disc_inside_the_image(catalogue: Catalogue) -> None:
    for sample in catalogue.samples[::101]:
        assert sample.mask is not None
        image, mask = Image.open(sample.path), np.asarray(Image.open(sample.mask))
        assert image.size == (64, 64) and image.mode == "RGB" and mask.shape == (64, 64)
        assert set(np.unique(mask)) == {0, 255}
        rows, columns = np.nonzero(mask)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert abs(height - width) <= 1 and 0.48 <= height / 64 <= 0.64
        assert len(rows) == pytest.approx(np.pi * (height + width) ** 2 / 16, rel=0.08)


def test_the_plate_is_opaque_and_the_rest_is_untouched() -> None:
    digit = load_digits().images[3] / 16.0
    light, dark = np.full((64, 64, 3), 250.0), np.full((64, 64, 3), 5.0)
    on_light, mask = compose(np.random.default_rng(4), light, digit)
    on_dark, same = compose(np.random.default_rng(4), dark, digit)
    assert np.array_equal(mask, same)
    differs = (on_light != on_dark).any(axis=2)
    # Only the anti-aliased rim, at most one pixel wide, lets the background through.
    assert (differs & (mask == 255)).sum() < 0.12 * (mask == 255).sum()
    assert (on_light[~differs].std(axis=0) > 20).all(), "the digit stands out from its plate"
    far = (on_light == 250).all(axis=2) & (on_dark == 5).all(axis=2)
    assert far.sum() > 0.9 * (mask == 0).sum()


def test_backgrounds_follow_the_class_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    sample_keys = {
        domain: Counter(background_class(rng, domain, 9, 0.7) for _ in range(4000))
        for domain in ("biased", "shuffled", "reversed", "novel")
    }
    assert sample_keys["biased"][9] / 4000 == pytest.approx(0.7, abs=0.03)
    assert sample_keys["reversed"][0] / 4000 == pytest.approx(0.7, abs=0.03)
    assert all(sample_keys["biased"][other] / 4000 == pytest.approx(0.3 / 9, abs=0.015) for other in range(9))
    assert all(sample_keys["shuffled"][other] / 4000 == pytest.approx(0.1, abs=0.02) for other in range(10))
    assert min(sample_keys["novel"]) == 0 and len(sample_keys["novel"]) >= 4


def test_a_finished_folder_is_kept_and_a_foreign_one_is_not_touched(
    catalogue: Catalogue, root: Path, tmp_path: Path
) -> None:
    first = catalogue.samples[0].path
    stamp = first.stat().st_mtime_ns
    make_embedded(root)
    assert first.stat().st_mtime_ns == stamp
    assert [path.name for path in root.parent.iterdir()] == [root.name]
    (tmp_path / "mine.txt").write_text("mine")
    with raises(DataError, tmp_path):
        make_embedded(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_is_no_longer_whole_or_of_another_version_is_noticed(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")
    for kind in ("images", "masks"):
        first = min((copy / kind / "novel" / "3").iterdir())
        first.unlink()
    (line,) = count_warnings(read_benchmark("embedded", copy))
    assert "novel" in line and "596" in line
    for stamp in ('{"version": 0}', "torn {"):
        (copy / "embedded.json").write_text(stamp)
        with raises(DataError, copy):
            read_benchmark("embedded", copy)


@pytest.mark.slow
def test_another_agreement_changes_backgrounds_alone_and_needs_folders_of_its_own(
    catalogue: Catalogue, root: Path, tmp_path: Path
) -> None:
    usual = read_benchmark("embedded", root, agreement=0.7)
    assert usual == catalogue
    whole = read_benchmark("embedded", tmp_path / "whole", agreement=1.0)
    names = [(sample.domain, sample.label, sample.path.name) for sample in whole.samples]
    assert names == [(sample.domain, sample.label, sample.path.name) for sample in catalogue.samples]
    pairs = list(zip(catalogue.samples, whole.samples, strict=True))
    same = Counter(one.domain for one, other in pairs if one.path.read_bytes() == other.path.read_bytes())
    # What does not depend on the agreement is the same to the bit.
    assert same["shuffled"] == same["novel"] == 597
    assert 0.6 < same["biased"] / 1200 < 0.8 and 0.6 < same["reversed"] / 597 < 0.8
    with raises(DataError, "agreement 0.7", "1.0", "benchmark.root=FOLDER"):
        read_benchmark("embedded", root, agreement=1.0)


@pytest.mark.slow
def test_a_beton_of_another_agreement_is_refused_and_a_run_on_it_has_another_id(root: Path, tmp_path: Path) -> None:
    settings = {"betons": str(tmp_path / "b"), "storage": "raw", "max_side": 32}
    usual = parse_config({"benchmark": {**settings, "root": str(root)}})
    manifest = prepare(usual.benchmark)
    assert manifest.agreement == 0.7 and checked_manifest(usual.benchmark) == manifest
    half = parse_config({"benchmark": {**settings, "root": str(tmp_path / "nowhere"), "agreement": 0.5}})
    with raises(DataError, "benchmark.agreement 0.7", "0.5"):
        checked_manifest(half.benchmark)
    assert usual.identity != half.identity
    with raises(ConfigError, "agreement"):
        parse_config({"benchmark": {"name": "pacs", "agreement": 0.5}})


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises(StorageError, tmp_path / "file"):
        make_embedded(tmp_path / "file" / "embedded")


def test_instances_depend_on_the_seed() -> None:
    assert digit_instances(0, 1797) == digit_instances(0, 1797)
    assert set(digit_instances(0, 1797)["biased"]) != set(digit_instances(1, 1797)["biased"])


def test_impossible_parameters_are_refused(tmp_path: Path) -> None:
    with raises(DataError, "agreement"):
        make_embedded(tmp_path / "new", agreement=1.2)
    assert not (tmp_path / "new").exists()
