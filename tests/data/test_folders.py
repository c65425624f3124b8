"""What in a tree is a picture, what is passed over and said, and what is refused."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refusals import raises

from align_dist.config import BenchmarkConfig
from align_dist.data.benchmarks import read_benchmark
from align_dist.data.catalogue import Catalogue
from align_dist.data.manifest import manifest_path, read_manifest
from align_dist.data.prepare import prepare
from align_dist.errors import DataError, StorageError

TWO = {"paint": {"cat": 2, "dog": 3}, "photo": {"cat": 1, "dog": 2}}


@pytest.fixture
def root(tmp_path: Path, pictures: Any) -> Path:
    folder: Path = pictures(tmp_path / "data", TWO)
    return folder


def passed_over(catalogue: Catalogue) -> dict[str, tuple[int, str]]:
    return {entry.reason: (entry.count, entry.first) for entry in catalogue.passed_over}


def test_pictures_are_known_by_suffix_in_any_case_and_by_content_without_one(root: Path, tmp_path: Path) -> None:
    folder, random = root / "photo" / "cat", np.random.default_rng(3)
    forms = {"a.jfif": "JPEG", "b.JPG": "JPEG", "c.pgm": "PPM", "d.Tiff": "TIFF", "e.jpe": "JPEG", "f": "PNG"}
    for name, form in forms.items():
        pixels = random.integers(0, 256, (30, 40) if name == "c.pgm" else (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name, form)
    described = BenchmarkConfig(name="folders", root=root, betons=tmp_path / "b", storage="raw")
    manifest = prepare(described)
    assert {f"photo/cat/{name}" for name in forms} <= set(manifest.paths) and len(manifest) == 8 + len(forms)
    assert manifest.passed_over == ()


def put_text(root: Path) -> None:
    (root / "paint" / "cat" / "notes.txt").write_text("a cat")
    (root / "paint" / "dog" / "Thumbs.db").write_bytes(b"x")


def put_folder(root: Path) -> None:
    shutil.copytree(root / "photo" / "dog", root / "photo" / "dog" / "more" / "still more")


def put_links(root: Path) -> None:
    for name in ("a.png", "b.png"):
        (root / "photo" / "dog" / name).symlink_to("nowhere.png")


@pytest.mark.parametrize(
    ("put", "reason", "count", "first"),
    [
        (put_text, "not the suffix of a supported image format", 2, "paint/cat/notes.txt"),
        (put_folder, "in a folder within a class folder", 2, "photo/dog/more/still more/dog_000.png"),
        (put_links, "a link to nothing", 2, "photo/dog/a.png"),
        (lambda root: (root / "paint" / "lynx").symlink_to("gone"), "a link to nothing", 1, "paint/lynx"),
        (lambda root: (root / "photo/cat/._cat.png").write_bytes(b"x"), "hidden", 1, "photo/cat/._cat.png"),
        (
            lambda root: (root / "photo" / "cat" / "LICENSE").write_text("free"),
            "not an image by its content, and without a suffix",
            1,
            "photo/cat/LICENSE",
        ),
        (
            lambda root: shutil.copy(root / "photo" / "cat" / "cat_000.png", root / "photo"),
            "outside of the class folders",
            1,
            "photo/cat_000.png",
        ),
        (lambda root: os.mkfifo(root / "photo" / "cat" / "pipe.png"), "not a regular file", 1, "photo/cat/pipe.png"),
    ],
)
def test_what_is_passed_over_is_counted_said_and_kept(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    put: Callable[[Path], Any],
    reason: str,
    count: int,
    first: str,
) -> None:
    before = read_benchmark("folders", root)
    put(root)
    after = read_benchmark("folders", root)
    assert after.samples == before.samples and passed_over(after) == {reason: (count, first)}
    described = BenchmarkConfig(name="folders", root=root, betons=tmp_path / "b", storage="raw")
    for _ in range(2):
        manifest = prepare(described)
        warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == 1 and all(part in warnings[0] for part in (reason, str(count), first))
    assert read_manifest(manifest_path(described.beton)).passed_over == manifest.passed_over == after.passed_over


def test_pictures_that_are_skipped_as_unreadable_are_counted_too(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "paint" / "dog" / "dog_001.png").write_bytes(b"no picture")
    described = BenchmarkConfig(name="folders", root=root, betons=tmp_path / "b", storage="raw", on_unreadable="skip")
    manifest = prepare(described)
    assert [(entry.reason, entry.count, entry.first) for entry in manifest.passed_over] == [
        ("unreadable", 1, "paint/dog/dog_001.png")
    ]
    assert capsys.readouterr().err.count("paint/dog/dog_001.png") == 1


def test_a_class_folder_whose_pictures_are_all_passed_over_says_where_they_are(root: Path) -> None:
    (root / "photo" / "dog" / "train").mkdir()
    for path in (root / "photo" / "dog").glob("*.png"):
        path.rename(path.parent / "train" / path.name)
    with raises(DataError, "photo/dog", "2 passed over"):
        read_benchmark("folders", root)


@pytest.mark.parametrize("name", ["lost+found", "__MACOSX", ".git"])
def test_folders_that_no_user_made_are_no_domains_and_no_classes(root: Path, name: str) -> None:
    before = read_benchmark("folders", root)
    (root / name).mkdir()
    (root / "photo" / name).mkdir()
    assert read_benchmark("folders", root) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("photo", b"caf\xe9"),
        ("photo/dog", b"chien\xff"),
        ("photo", b"two\nlines"),
    ],
)
def test_a_name_that_is_no_text_is_refused_in_one_line(root: Path, tmp_path: Path, old: str, new: bytes) -> None:
    os.rename(root / old, os.path.join(os.fsencode((root / old).parent), new))
    described = BenchmarkConfig(name="folders", root=root, betons=tmp_path / "b")
    with raises(DataError) as caught:
        prepare(described)
    str(caught.value).encode("utf-8")
    assert not described.betons.exists()


def test_two_spellings_of_one_name_are_refused(tmp_path: Path, pictures: Any) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    root = pictures(tmp_path / "data", {"a": {composed: 1, "x": 1}, "b": {decomposed: 1, "x": 1}})
    with raises(DataError, "'caf"):
        read_benchmark("folders", root)
    for domain, label in (("a", composed), ("b", decomposed)):
        (root / domain / label).rename(root / domain / "cafe")
    assert read_benchmark("folders", root).classes == ("cafe", "x")


def test_a_picture_may_have_any_name(root: Path, tmp_path: Path) -> None:
    folder = os.fsencode(root / "photo" / "cat")
    for name in (b"caf\xe9.png", b"two\nlines.png"):
        shutil.copy(root / "photo" / "dog" / "dog_000.png", os.path.join(folder, name))
    described = BenchmarkConfig(name="folders", root=root, betons=tmp_path / "b", storage="raw")
    manifest = prepare(described)
    assert read_manifest(manifest_path(described.beton)) == manifest and len(manifest) == 10
    os.unlink(os.path.join(folder, b"two\nlines.png"))
    with raises(DataError, "1 gone"):
        prepare(described)


DROP_FROM_BOUNDING_SET, OVERRIDES = 24, (1, 2)  # prctl's, and the capabilities by which root reads everything


def give_up_privileges() -> None:
    """Makes what root then starts subject to permissions like any user; tests often run as root."""
    if os.getuid() == 0:
        for capability in OVERRIDES:
            assert ctypes.CDLL(None).prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0) == 0


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command of a user who may not read everything."""
    return subprocess.run(
        [sys.executable, "-m", "align_dist.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=give_up_privileges,
    )


@contextmanager
def closed(path: Path) -> Iterator[None]:
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


@pytest.fixture
def description(root: Path, tmp_path: Path) -> Path:
    benchmark = f"{{name: folders, root: '{root}', betons: '{tmp_path / 'b'}', storage: raw}}"
    (tmp_path / "run.yaml").write_text(f"benchmark: {benchmark}\nruns: '{tmp_path / 'runs'}'\n")
    return tmp_path / "run.yaml"


@pytest.mark.parametrize("place", [".", "photo", "photo/dog"])
def test_a_folder_without_permission_is_one_line(root: Path, description: Path, place: str) -> None:
    with closed(root / place):
        finished = command("data", "prepare", str(description))
    assert finished.returncode == DataError.exit_code, finished.stderr
    (line,) = finished.stderr.splitlines()
    assert str(root / place) in line


@pytest.mark.slow
def test_a_lost_and_found_without_permission_is_nothing(root: Path, description: Path) -> None:
    (root / "lost+found").mkdir()
    with closed(root / "lost+found"):
        for _ in range(2):
            finished = command("data", "prepare", str(description))
            assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize("which", ["beton", "manifest", "folder"])
def test_a_beton_or_manifest_without_permission_is_not_called_damaged(
    root: Path, tmp_path: Path, description: Path, which: str
) -> None:
    described = BenchmarkConfig(name="folders", root=root, betons=tmp_path / "b", storage="raw")
    prepare(described)
    before = described.beton.read_bytes()
    path = {"beton": described.beton, "manifest": manifest_path(described.beton), "folder": tmp_path / "b"}[which]
    with closed(path):
        for verb in (("data", "prepare"), ("data", "verify"), ("train",)):
            finished = command(*verb, str(description))
            assert finished.returncode == StorageError.exit_code, finished.stderr
            line = finished.stderr.splitlines()[-1]
            assert str(tmp_path / "b") in line and "--force" not in line
            assert "Traceback" not in finished.stderr
    assert described.beton.read_bytes() == before
