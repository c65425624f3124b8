"""What a user can cause: one line and a documented exit code, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error the user can mend. The message is one line: the thing, what was expected, the remedy."""

    exit_code = 1
    # Whether the same command goes on where this one ended, with nothing mended: a grid or a search starts it again.
    resumable = False
    # Whether the cause lies in the run's own description, so that every start ends the same way.
    permanent = False
    # Over ranks: whether every rank raises it, and whether another one says it.
    agreed = False
    told_elsewhere = False


def nearest_name(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'align'?)` for a known name that is close, nothing where none is."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class ConfigError(UserError):
    """An unknown key, a wrong type, or an impossible combination in a run's description."""

    exit_code = 2
    permanent = True


class DataError(UserError):
    """Images, manifests or betons that are missing, damaged or unusable."""

    exit_code = 3


class CheckpointError(UserError):
    """No usable checkpoint or weights where one is needed."""

    exit_code = 4


class MachineError(UserError):
    """Something this machine lacks: a package, a header, a device, a rank variable."""

    exit_code = 5


class NonFiniteError(UserError):
    """A loss or a gradient became NaN or infinite; the last good checkpoint is untouched."""

    exit_code = 6
    permanent = True
    agreed = True


class StorageError(UserError):
    """The disk is full or a folder is not writable."""

    exit_code = 7


class LostRankError(UserError):
    """Another rank died or stalled; the last checkpoint is good and the same command resumes."""

    exit_code = 8
    resumable = True


class Preempted(UserError):
    """A signal asked the run to stop; it saved at the step boundary and can be resumed. cause: its name."""

    exit_code = 75
    resumable = True
    agreed = True

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


def error_of(exit_code: int) -> type[UserError]:
    """The kind of error that a command's exit code tells of; UserError itself for a code that is no kind's."""
    return next((kind for kind in UserError.__subclasses__() if kind.exit_code == exit_code), UserError)


def is_resumable(exit_code: int) -> bool:
    """Whether a command that ended so goes on when started again: the code is negative after a signal that killed."""
    return exit_code < 0 or error_of(exit_code).resumable


def first_line(error: Exception) -> str:
    """What a foreign error says, in one line of at most 200 characters; its kind where it says nothing."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join((lines or [type(error).__name__])[0].split())[:200]
