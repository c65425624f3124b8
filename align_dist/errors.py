"""Errors that a user can cause: one line and a documented exit code, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix. The message is one line: the thing, what was expected, the remedy."""

    exit_code = 1
    # Whether the same command resumes the run with nothing changed: a grid or a search then starts the run again.
    resumable = False
    # Whether the cause lies in the run's config, so that every start ends the same way.
    permanent = False
    # Of several ranks: whether every rank raises the error, and whether another rank prints it.
    raised_on_all_ranks = False
    printed_by_another_rank = False


def nearest_name(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'align'?)` where a known name is close, else an empty string."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class ConfigError(UserError):
    """An unknown key, a wrong type or an impossible combination in a config."""

    exit_code = 2
    permanent = True


class DataError(UserError):
    """Images, manifests or betons that are missing, damaged or unusable."""

    exit_code = 3


class CheckpointError(UserError):
    """A missing or unusable checkpoint or weights file."""

    exit_code = 4


class MachineError(UserError):
    """A missing part of the machine: a package, a header, a device, a rank variable."""

    exit_code = 5


def missing_package(package: str, use: str, extra: str = "") -> MachineError:
    """The error of a package that `use` needs and that is not installed. extra: the extra of setup.py with the package,
    none for the default ones.
    """
    extras = f" ffcv,embedded,lite0,{extra}" if extra else ""
    return MachineError(f"{package} is not installed, which {use} needs; run `bash launch/install.sh{extras}`")


class NonFiniteError(UserError):
    """A NaN or infinite loss or gradient; the last good checkpoint is untouched."""

    exit_code = 6
    permanent = True
    raised_on_all_ranks = True


class StorageError(UserError):
    """A full disk or a folder without write permission."""

    exit_code = 7


class LostRankError(UserError):
    """Another rank that died or stalled; the last checkpoint is good and the same command resumes."""

    exit_code = 8
    resumable = True


class Preempted(UserError):
    """A stop by a signal, saved at the step boundary and ready to resume. cause: the signal's name."""

    exit_code = 75
    resumable = True
    raised_on_all_ranks = True

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


def error_of(exit_code: int) -> type[UserError]:
    """The class of error with that exit code; UserError itself for any other code."""
    return next((kind for kind in UserError.__subclasses__() if kind.exit_code == exit_code), UserError)


def is_resumable(exit_code: int) -> bool:
    """Return whether the same command resumes after that exit code, which is negative after a kill by a signal."""
    return exit_code < 0 or error_of(exit_code).resumable


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 200 characters; the error's class where there is no message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join((lines or [type(error).__name__])[0].split())[:200]


def last_line(output: str) -> str:
    """The last line of a process's output, where programs say why they failed; `no message` where there is none."""
    return (output.strip().splitlines() or ["no message"])[-1].strip()
