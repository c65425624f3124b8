"""A file is the old one or the new one, never a part."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from align_dist.errors import StorageError
from align_dist.files import write_text, write_whole


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def torn(file: BinaryIO) -> None:
        file.write(b"ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="disk is full"):
        write_whole(tmp_path / "a", torn)
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def interrupted(file: BinaryIO) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", interrupted)
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_folders_on_the_way_are_made_and_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "a", "λ₁")
    assert (tmp_path / "deep" / "er" / "a").read_bytes() == "λ₁".encode()
