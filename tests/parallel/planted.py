"""Mistakes that two networks and two optimisers invite, to show that the comparison of engines sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from align_dist.methods import align
from align_dist.parallel.engine import Engine

Networks = dict[str, Any]


@contextmanager
def _frozen_is(other: Callable[[Engine], Any]) -> Iterator[None]:
    """ALIGN's `frozen`, replaced while inside."""
    right = align.frozen
    align.frozen = contextmanager(other)
    try:
        yield
    finally:
        align.frozen = right


@contextmanager
def none(_networks: Networks) -> Iterator[None]:
    """No mistake: the frame around the others breaks nothing by itself."""
    right = align.frozen

    def same(engine: Engine) -> Iterator[Any]:
        with right(engine) as module:
            yield module

    with _frozen_is(same):
        yield


@contextmanager
def wrapper(_networks: Networks) -> Iterator[None]:
    """Passes through a network that is fixed go through the wrapper instead of the plain module."""
    right = align.frozen

    def through_wrapper(engine: Engine) -> Iterator[Any]:
        with right(engine):
            yield engine

    with _frozen_is(through_wrapper):
        yield


@contextmanager
def leak(_networks: Networks) -> Iterator[None]:
    """The fixed network is not fixed: the masker's gradients reach the classifier's weights."""

    def not_frozen(engine: Engine) -> Iterator[Any]:
        yield engine.module

    with _frozen_is(not_frozen):
        yield


@contextmanager
def alone(networks: Networks) -> Iterator[None]:
    """Gradients never travel: each rank trains by itself."""
    for engine in networks.values():
        engine._reducing = lambda _last, wrapped=engine._wrapped: wrapped.no_sync()
    yield
