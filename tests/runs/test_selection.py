"""The files of selections are those that the newest checkpoint knows of."""

from __future__ import annotations

from pathlib import Path

import torch

from align_dist.runs.selection import Weights, load_selected, restore_selected, write_selected


def weights_of(step: int) -> Weights:
    return {"step": step, "networks": {"classifier": {"w": torch.full((3,), float(step))}}}


def steps_in(folder: Path) -> dict[str, int]:
    return {path.stem: load_selected(folder, path.stem)["step"] for path in folder.glob("*")}


def test_what_a_lost_start_has_selected_is_replaced_by_what_the_checkpoint_holds(tmp_path: Path) -> None:
    write_selected(tmp_path, {"validation": weights_of(24), "oracle": weights_of(24), "last": weights_of(24)})
    restore_selected(tmp_path, {"validation": weights_of(16)})
    assert steps_in(tmp_path) == {"validation": 16}
    assert torch.equal(load_selected(tmp_path, "validation")["networks"]["classifier"]["w"], torch.full((3,), 16.0))


def test_missing_and_torn_files_are_written_again_and_right_ones_left_alone(tmp_path: Path) -> None:
    weights = {"validation": weights_of(8), "oracle": weights_of(16), "last": weights_of(24)}
    write_selected(tmp_path, weights)
    right = (tmp_path / "last.pt").stat().st_ino
    (tmp_path / "validation.pt").unlink()
    (tmp_path / "oracle.pt").write_bytes((tmp_path / "oracle.pt").read_bytes()[:-9])
    restore_selected(tmp_path, weights)
    assert steps_in(tmp_path) == {"validation": 8, "oracle": 16, "last": 24}
    assert (tmp_path / "last.pt").stat().st_ino == right
