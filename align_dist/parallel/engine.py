"""The engine contract: how a method uses a network, whatever wraps the network. One engine per file.

`engine(x)` is the wrapped forward pass, and `engine.update(terms_of, parts)` updates the weights. Passes through a
frozen network use `frozen(engine)`, never the wrapper: with two networks and two optimisers the wrapper is silently
wrong under static-graph DDP and fails under ZeRO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from align_dist.input_attribution import logit_gradient
from align_dist.modes import in_evaluation_mode

Part = TypeVar("Part")

# Weighted terms by name; their sum is what a network minimises.
Terms = dict[str, Tensor]


class Update(NamedTuple):
    """terms: of this rank, detached and averaged over the parts. gradient_norm: of the global batch, before clipping.

    All are 0-d tensors on the device.
    """

    terms: Terms
    gradient_norm: Tensor


class Engine(Protocol):
    """A network with its optimiser and its gradient communication."""

    @property
    def module(self) -> nn.Module:
        """The plain network, for passes that do not train the network."""
        ...

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """The wrapped forward pass, the only one whose result may be used in `update`."""
        ...

    def update(self, terms_of: Callable[[Part], Terms], parts: Sequence[Part]) -> Update:
        """Run forward and backward for each part, then one all-reduce, clipping and an optimiser step.

        terms_of: the terms of one part, each a mean over the part's images, through the wrapped forward pass. parts:
        this rank's share of the global batch in parts of equal size; the gradient is that of the mean over all parts of
        all ranks. After a loss or gradient that is not finite, on any rank, no rank's weights change any more: see
        `healthy`.
        """
        ...

    @property
    def healthy(self) -> Tensor:
        """1.0 until a loss or gradient is not finite, then 0.0; a 0-d tensor on the device."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """The plain network's whole state dict, on every rank. Collective."""
        ...

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load the result of `weights` from any engine and world size. Collective."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """`module` and `optimiser`, independent of engine and world size: tensors and plain values only. Collective."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the result of `state_dict` from any engine and world size. Collective."""
        ...

    def reset_optimiser(self) -> None:
        """Reset the optimiser's moments and step count; the learning rate stays."""
        ...

    def local_copy(self) -> Engine:
        """An engine with the current weights that a rank may call on its own, for evaluation.

        Returns itself unless the wrapped network is sharded. Collective.
        """
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the wrapped forward pass, for training passes through `module`."""
        ...

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate of the next update."""
        ...


def input_gradient(engine: Engine, images: Tensor, labels: Tensor) -> Tensor:
    """d f_y / d x of the logit of each image's label, in evaluation mode; (B, 3, H, W), detached.

    Computed through the frozen plain network, so that no engine's gradients change, and outside autocast, because a
    ranking of pixels by 16 bits would mostly rank rounding errors.
    """
    with torch.enable_grad(), frozen(engine) as network:
        return logit_gradient(network, images.detach(), labels)


def total(terms: Terms) -> Tensor:
    """The sum of weighted terms."""
    return torch.stack([term.float() for term in terms.values()]).sum()


def nan_unless_finite(loss: Tensor) -> Tensor:
    """The loss, with a NaN gradient where the loss is not finite, so that an all-reduce informs every rank."""
    finite = torch.isfinite(loss.detach())
    return loss * torch.where(finite, 1.0, float("nan")).to(loss.dtype)


def zero_optimiser_state(optimiser: torch.optim.Optimizer) -> None:
    """Zero an optimiser's state in place, the initial state of Adam, AdamW and SGD, without moving shards."""
    for entry in optimiser.state.values():
        for value in entry.values():
            if isinstance(value, Tensor):
                value.zero_()


def mean_of(parts: list[Terms]) -> Terms:
    """Mean of each term over parts of equal size, detached."""
    return {name: torch.stack([terms[name].detach() for terms in parts]).mean(0) for name in parts[0]}


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name, in the order of the optimiser's state."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def in_memory_format_of(parameters: Sequence[Tensor], saved: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state dict with each tensor of a parameter's shape in the parameter's memory format.

    Fused kernels read parameter and state in memory order, and would silently mix up two memory formats.
    """

    def laid_out(index: int, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.shape != parameters[index].shape:
            return value
        return torch.empty_like(parameters[index], dtype=value.dtype, device=value.device).copy_(value)

    entries = {
        index: {key: laid_out(index, value) for key, value in entry.items()} for index, entry in saved["state"].items()
    }
    return {**saved, "state": entries}


@contextmanager
def frozen(engine: Engine) -> Iterator[nn.Module]:
    """Freeze the plain network: no gradients for its weights, BatchNorm and dropout in evaluation mode.

    Gradients still flow to the network's input. Restores modes and requires_grad on exit.
    """
    module = engine.module
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        with in_evaluation_mode(module):
            yield module
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
