"""Files that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from align_dist.errors import CheckpointError
from align_dist.training.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights


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
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(path)


def test_pickles_that_run_code_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("ran",))

    save_weights(tmp_path / "x.pt", {"evil": Evil()})
    with pytest.raises(CheckpointError, match="refused"):
        load_weights(tmp_path / "x.pt")


def test_the_newest_then_the_previous_then_an_error(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, quiet) is None
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, {"step": step})
    assert load_checkpoint(tmp_path, quiet) == {"step": 3}
    (tmp_path / "last.ckpt").write_bytes(b"torn")
    said: list[str] = []
    assert load_checkpoint(tmp_path, said.append) == {"step": 2}
    assert said == [f"{tmp_path / 'last.ckpt'}: damaged (its digest does not match); trying previous.ckpt"]
    (tmp_path / "previous.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"no checkpoint is usable; delete {tmp_path.parent} and"):
        load_checkpoint(tmp_path, quiet)


def test_dying_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 1})
    (tmp_path / "last.ckpt").rename(tmp_path / "previous.ckpt")
    assert load_checkpoint(tmp_path, quiet) == {"step": 1}
