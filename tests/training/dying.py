"""A real process that kills itself before a chosen write: nothing after that instant happens.

    python tests/training/dying.py EVENT NAME ARGUMENTS…

is `align-dist ARGUMENTS…`, dead before the first EVENT, `open` (to write) or `rename`, that concerns a file NAME.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from align_dist.cli import main


def die_when(condition: Callable[[str, str], bool]) -> None:
    """From here on this process kills itself before the first chosen event; it is told the event and the file's name.

    A file that is written beside under another name, `.<name>.<number>.partial`, is told by its own.
    """

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        for kind, name in _writes(event, arguments):
            if condition(kind, name):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _writes(event: str, arguments: tuple[object, ...]) -> Iterator[tuple[str, str]]:
    if event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int):
        name = Path(arguments[0]).name
        if arguments[2] & (os.O_WRONLY | os.O_RDWR):
            yield "open", name.removeprefix(".").split(".partial")[0].rpartition(".")[0] if ".partial" in name else name
    elif event == "os.rename":
        yield "rename", Path(str(arguments[1])).name


if __name__ == "__main__":
    event, name, *arguments = sys.argv[1:]
    die_when(lambda kind, file: (kind, file) == (event, name))
    sys.exit(main(arguments))
