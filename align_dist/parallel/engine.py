"""What a method may do with a network, whatever wraps it. One contract, one engine a file.

`engine(x)` is the wrapped forward and `engine.update(loss)` changes the weights. Passes through a network
that is fixed for the moment go through `frozen(engine)`, never through the wrapper: with two networks and
two optimisers the wrapper is silently wrong under static-graph DDP and fails under ZeRO.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from torch import Tensor, nn


class Engine(Protocol):
    """A network, its optimiser and the way its gradients travel."""

    @property
    def module(self) -> nn.Module:
        """The plain network, for passes that must not train it."""
        ...

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """The wrapped forward; the only one whose result may reach `update`."""
        ...

    def update(self, loss: Tensor) -> Tensor:
        """Backward, clip, step, zero. Returns the gradient norm before clipping, a 0-d tensor on the device.

        A loss or gradient that is not finite changes nothing, on any rank, now or later: see `healthy`.
        """
        ...

    @property
    def healthy(self) -> Tensor:
        """1.0 until a loss or gradient was not finite, from then on 0.0; a 0-d tensor on the device."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Network and optimiser, free of ranks: tensors and plain values only."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` gave, on any number of ranks."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the wrapped forward, for training passes through `module`."""
        ...

    def set_learning_rate(self, learning_rate: float) -> None:
        """The rate of the next update."""
        ...


@contextmanager
def frozen(engine: Engine) -> Iterator[nn.Module]:
    """The plain network, fixed: no gradients to its weights, BatchNorm and dropout in evaluation mode.

    Gradients still flow through it to its input. Restores modes and requires_grad on leaving.
    """
    module = engine.module
    modes = [(child, child.training) for child in module.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.eval()
    module.requires_grad_(False)
    try:
        yield module
    finally:
        for child, mode in modes:
            child.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
