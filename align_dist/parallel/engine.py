"""What a method may do with a network, whatever wraps it. One contract, one engine a file.

`engine(x)` is the wrapped forward and `engine.update(terms_of, parts)` changes the weights. Passes through a network
that is fixed for the moment go through `frozen(engine)`, never through the wrapper: with two networks and
two optimisers the wrapper is silently wrong under static-graph DDP and fails under ZeRO.
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
    """terms: detached, averaged over the parts, of this rank. gradient_norm: before clipping, of the whole batch.

    All are 0-d tensors on the device.
    """

    terms: Terms
    gradient_norm: Tensor


class Engine(Protocol):
    """A network, its optimiser and the way its gradients travel."""

    @property
    def module(self) -> nn.Module:
        """The plain network, for passes that must not train it."""
        ...

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """The wrapped forward; the only one whose result may reach `update`."""
        ...

    def update(self, terms_of: Callable[[Part], Terms], parts: Sequence[Part]) -> Update:
        """For each part forward and backward, then one all-reduce, clip, step, zero.

        terms_of: the terms of one part, each a mean over its images, through the wrapped forward. parts: this
        rank's share of the global batch in pieces of equal size; the gradient is that of the mean over all pieces
        of all ranks. A loss or gradient that is not finite, on any rank, changes nothing on any rank, now or
        later: see `healthy`.
        """
        ...

    @property
    def healthy(self) -> Tensor:
        """1.0 until a loss or gradient was not finite, from then on 0.0; a 0-d tensor on the device."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """The plain network's state dict, free of ranks. Collective."""
        ...

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """What `weights` gave, of any engine on any number of ranks. Collective."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """`module` and `optimiser`, free of ranks and of the engine: tensors and plain values only. Collective."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` gave, of any engine on any number of ranks. Collective."""
        ...

    def reset_optimiser(self) -> None:
        """The optimiser forgets its moments and counts its steps anew; its rate stays."""
        ...

    def reader(self) -> Engine:
        """An engine with the present weights whose passes are no rank's business but this one's: to evaluate.

        Itself, but where a wrapped network keeps only shards. Collective.
        """
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the wrapped forward, for training passes through `module`."""
        ...

    def set_learning_rate(self, learning_rate: float) -> None:
        """The rate of the next update."""
        ...


def input_gradient(engine: Engine, images: Tensor, labels: Tensor) -> Tensor:
    """d f_y / d x of each image's own label's logit, in evaluation mode; (B, 3, H, W), detached.

    Through the plain network, fixed, so that no engine's gradients are touched.
    """
    with torch.enable_grad(), frozen(engine) as network, engine.autocast():
        return logit_gradient(network, images.detach(), labels)


def total(terms: Terms) -> Tensor:
    """The sum of weighted terms."""
    return torch.stack([term.float() for term in terms.values()]).sum()


def guarded(loss: Tensor) -> Tensor:
    """The loss; where it is not finite its gradient is NaN, so that an all-reduce tells every rank."""
    finite = torch.isfinite(loss.detach())
    return loss * torch.where(finite, 1.0, float("nan")).to(loss.dtype)


def forget(optimiser: torch.optim.Optimizer) -> None:
    """Zeroes all that an optimiser keeps, in place: what Adam, AdamW and SGD start from, and shards stay where they
    are.
    """
    for entry in optimiser.state.values():
        for value in entry.values():
            if isinstance(value, Tensor):
                value.zero_()


def mean_of(parts: list[Terms]) -> Terms:
    """Each term's mean over parts of equal size, detached."""
    return {name: torch.stack([terms[name].detach() for terms in parts]).mean(0) for name in parts[0]}


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that an optimiser gets, by name, in the order that its state counts them in."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def laid_out_like(parameters: Sequence[Tensor], saved: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state dict with each tensor of a parameter's shape in that parameter's own memory layout.

    Fused kernels go through both as they lie in memory: two layouts would be mixed up without a word.
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
    """The plain network, fixed: no gradients to its weights, BatchNorm and dropout in evaluation mode.

    Gradients still flow through it to its input. Restores modes and requires_grad on leaving.
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
