"""Files that are whole or absent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from refusals import raises

from align_dist.errors import CheckpointError
from align_dist.runs.checkpoint import (
    load_checkpoint,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    save_weights,
)


def quiet(_line: str) -> None:
    return None


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    state = {"step": 3, "w": torch.randn(4, 2, dtype=torch.bfloat16), "names": ["a"]}
    save_weights(tmp_path / "x.pt", state)
    loaded = load_weights(tmp_path / "x.pt")
    assert loaded["step"] == 3 and torch.equal(loaded["w"], state["w"])


@pytest.mark.parametrize("place", [0.001, 0.5, 0.99])
def test_any_changed_byte_is_found(tmp_path: Path, place: float) -> None:
    path = tmp_path / "x.pt"
    save_weights(path, {"w": torch.zeros(100)})
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with raises(CheckpointError, path):
        load_weights(path)


def test_pickles_that_run_code_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("ran",))

    save_weights(tmp_path / "x.pt", {"evil": Evil()})
    with raises(CheckpointError, tmp_path / "x.pt"):
        load_weights(tmp_path / "x.pt")


def test_the_newest_then_the_previous_then_an_error(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, quiet) is None
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, {"step": step})
    assert load_checkpoint(tmp_path, quiet) == {"step": 3}
    (tmp_path / "last.ckpt").write_bytes(b"torn")
    messages: list[str] = []
    assert load_checkpoint(tmp_path, messages.append) == {"step": 2}
    assert messages == [f"{tmp_path / 'last.ckpt'}: damaged (its digest does not match); trying previous.ckpt"]
    (tmp_path / "previous.ckpt").write_bytes(b"")
    with raises(CheckpointError, tmp_path.parent):
        load_checkpoint(tmp_path, quiet)


def test_dying_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 1})
    (tmp_path / "last.ckpt").rename(tmp_path / "previous.ckpt")
    assert load_checkpoint(tmp_path, quiet) == {"step": 1}


@pytest.mark.parametrize("version", [None, 2, 4, "3"])
def test_a_checkpoint_of_another_version_is_refused_and_the_previous_not_taken_for_it(
    tmp_path: Path, version: object
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step})
    save_weights(tmp_path / "last.ckpt", {"step": 3} | ({} if version is None else {"version": version}))
    with raises(CheckpointError, tmp_path / "last.ckpt", "version", tmp_path.parent):
        load_checkpoint(tmp_path, pytest.fail)
    with raises(CheckpointError, tmp_path / "last.ckpt", "version"):
        read_checkpoint(tmp_path / "last.ckpt", "delete it")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 torn"])
def test_a_file_with_a_right_digest_that_holds_no_state_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    with pytest.raises(CheckpointError) as caught:
        load_weights(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_bare_tensor_is_no_state(tmp_path: Path) -> None:
    save_weights(tmp_path / "x.pt", torch.ones(2))  # type: ignore[arg-type]
    with raises(CheckpointError, tmp_path / "x.pt", "Tensor"):
        load_weights(tmp_path / "x.pt")
