"""How tests expect an error: its class, and what its message names. The sentence around the names is free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from align_dist.errors import UserError


@contextmanager
def raises(kind: type[Exception], *names: object) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Expects an error of that class whose message has every name: a key, a path, a value; a user's in one line."""
    with pytest.raises(kind) as caught:
        yield caught
    message = str(caught.value)
    assert [name for name in map(str, names) if name not in message] == [], message
    assert not isinstance(caught.value, UserError) or "\n" not in message, message
