"""A file is the old one or the new one, never a part."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from refusals import raises

from align_dist.errors import StorageError
from align_dist.files import last_lines, read_json, read_records, remove, storage_errors, write_atomically, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def torn(file: BinaryIO) -> None:
        file.write(b"ne")
        raise OSError(28, "No space left on device")

    with raises(StorageError, tmp_path / "a"):
        write_atomically(tmp_path / "a", torn)
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def interrupted(file: BinaryIO) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", interrupted)
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_folders_on_the_way_are_made_and_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "a", "λ₁")
    assert (tmp_path / "deep" / "er" / "a").read_bytes() == "λ₁".encode()


def test_names_in_bytes_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a", os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "a").read_text("utf-8") == "caf\\udce9"


def test_what_a_disk_has_caused_is_one_line_and_other_mistakes_are_not_hidden(tmp_path: Path) -> None:
    with raises(StorageError), storage_errors(), open("/dev/full", "w") as file:
        file.write("x")
        file.flush()
    long = tmp_path / ("x" * 300)
    with raises(StorageError, long), storage_errors():
        long.write_text("")
    with pytest.raises(FileNotFoundError), storage_errors():
        (tmp_path / "none").read_text()


@dataclass(frozen=True)
class Point:
    x: int
    y: float


def test_lines_of_another_form_are_left_out_and_the_others_come_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert read_records(path, Point) == []
    odd = [b'{"x": 2}', b'{"x": 2, "\xff": 3}', b'{"x": 2, "y": 1, "z": 0}', b"[1, 2]", b"7", b"\xff\xfe", b""]
    path.write_bytes(b"\n".join([b'{"x": 1, "y": 0.5}', *odd, b'{"y": 2, "x": 4}', b'{"x": 5, "y"']))
    assert read_records(path, Point) == [Point(1, 0.5), Point(4, 2)]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"x": ', b"null"])
def test_an_object_that_cannot_be_read_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    assert read_json(tmp_path / "none") == read_json(tmp_path) == {}
    (tmp_path / "a").write_bytes(content)
    assert read_json(tmp_path / "a") == {}


def test_removing_what_is_not_there_is_nothing_and_a_folder_is_an_error(tmp_path: Path) -> None:
    remove(tmp_path / "none")
    with pytest.raises(StorageError):
        remove(tmp_path)


def test_the_last_lines_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {number}" for number in range(50_000)) + "\n\n")
    assert last_lines(log, 2) == ["line 49998", "line 49999"]
    assert last_lines(tmp_path / "none", 2) == []
