"""How a run stands is read from its folder alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from align_dist.config import RunConfig
from align_dist.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LostRankError,
    MachineError,
    NonFiniteError,
    Preempted,
    StorageError,
    UserError,
    error_of,
    is_resumable,
)
from align_dist.runs.checkpoint import save_checkpoint
from align_dist.runs.folder import RunFolder
from align_dist.runs.status import State, status_of, unfinished_status

KINDS = (
    UserError, ConfigError, DataError, CheckpointError, MachineError, NonFiniteError, StorageError, LostRankError,
    Preempted,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_run_from_nothing_to_its_end(squares: RunConfig, folder: RunFolder) -> None:
    assert str(status_of(folder)) == "new"
    folder.begin(squares)
    assert status_of(folder).state is State.INTERRUPTED
    folder.record_ending(Preempted.exit_code, "SIGTERM: saved at step 3")
    assert str(status_of(folder)) == "interrupted (SIGTERM: saved at step 3)"
    folder.begin(squares)
    folder.write_results([])
    assert str(status_of(folder)) == "finished"
    assert unfinished_status(folder).state is State.INTERRUPTED, "for one who asks for more than results"
    with folder.locked():
        assert status_of(folder).state is State.RUNNING
    folder.results.unlink()
    assert status_of(folder).state is State.TRAINED and not folder.is_finished


def test_a_run_that_a_scheduler_stopped_by_a_signal_is_stopped(squares: RunConfig, folder: RunFolder) -> None:
    folder.begin(squares)
    folder.stop("of 4 trials the last")
    folder.record_ending(Preempted.exit_code, "SIGTERM: saved at step 3")
    assert str(status_of(folder)) == "stopped (of 4 trials the last)"
    folder.write_trained(24, {"last": 24})
    assert status_of(folder).state is State.TRAINED


def test_a_first_checkpoint_is_a_beginning_too(folder: RunFolder) -> None:
    save_checkpoint(folder.checkpoints, {"step": 3})
    assert status_of(folder).state is State.INTERRUPTED
    (folder.checkpoints / "last.ckpt").rename(folder.checkpoints / ".next.ckpt")
    assert status_of(folder).state is State.NEW, "what a crash left half-way is none"


@pytest.mark.parametrize("error", KINDS)
def test_only_what_the_same_command_gets_over_counts_as_an_interruption(
    folder: RunFolder, error: type[UserError]
) -> None:
    folder.record_ending(error.exit_code, "so it is")
    ending = folder.ending()
    assert ending is not None and ending.error is error
    interrupted = error in (LostRankError, Preempted)
    assert status_of(folder).state is (State.INTERRUPTED if interrupted else State.FAILED)
    assert is_resumable(error.exit_code) == interrupted


def test_codes_of_no_kind() -> None:
    assert is_resumable(-9), "killed"
    assert error_of(130) is UserError and not is_resumable(130) and not is_resumable(0)


def test_what_every_start_ends_with_is_never_resumed() -> None:
    assert [kind for kind in KINDS if kind.permanent] == [ConfigError, NonFiniteError]
    assert not any(kind.permanent and kind.resumable for kind in KINDS)
