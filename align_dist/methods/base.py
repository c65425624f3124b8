"""The base of methods: options, networks, losses and state. The step, micro-batches, logging and the gradient probe
follow from the losses.

A new method is a file here and a line in `options.registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch, Share
from align_dist.options import Options
from align_dist.options.clock import Clock
from align_dist.options.registry import load_class
from align_dist.parallel.engine import Engine, Terms
from align_dist.places import Places
from align_dist.schema.values import OptimiserConfig

O = TypeVar("O", bound=Options)  # noqa: E741
Forward = Callable[..., Any]
# Each term's weight and raw value, a 0-d tensor; a term without a weight is logged and not trained on.
Losses = Mapping[str, tuple[float | None, Tensor]]
# Arguments: a network's forward (its engine, or its module in a probe), a part of a batch and the step.
Loss = Callable[[Forward, Batch, int], Losses]
Scalars = dict[str, Tensor | float]


def _unchanged(values: Tensor) -> Tensor:
    """Return the values of a single rank unchanged."""
    return values


@dataclass(frozen=True)
class Context:
    """The run as a method sees it. micro_batches: number of parts of a rank's batch.

    concatenate: concatenates tensors (B, ...) of all ranks. sum_over_ranks: sums a tensor over ranks. Both are
    collective and differentiable. domain_counts, group_counts: number of training images per domain and group of the
    benchmark, 0 for a domain that is not a source; empty for a benchmark without groups.
    """

    clock: Clock
    seed: int
    micro_batches: int = 1
    concatenate: Callable[[Tensor], Tensor] = _unchanged
    sum_over_ranks: Callable[[Tensor], Tensor] = _unchanged
    domain_counts: tuple[int, ...] = ()
    group_counts: tuple[int, ...] = ()


class Network(NamedTuple):
    """A trainable network. build: builds the module with weights from torch's seed. start, end: the steps at which its
    learning-rate schedule starts and ends; an end of None is the run's end.
    """

    build: Callable[[], nn.Module]
    optimiser: OptimiserConfig
    start: int = 0
    end: int | None = None


class Method(ABC, Generic[O]):
    """A training method. networks: engines by name, the classifier's and those of `own_networks`.

    state: tensors on the device that persist over steps, equal on all ranks, saved in checkpoints. A loss replaces an
    entry and never changes a tensor in place.
    """

    options_type: ClassVar[type[Options]] = Options
    # Whether a loss needs a rank's whole batch at once, for means over the global batch.
    takes_whole_batches: ClassVar[bool] = False

    def __init__(self, networks: Mapping[str, Engine], options: O, context: Context) -> None:
        self.networks, self.options, self.context = networks, options, context
        self.classifier = networks["classifier"]
        self.state = self.initial_state()

    @property
    def places(self) -> Places | None:
        """Positions of the cells of the classifier's maps; None for cells that divide the image evenly."""
        module: Any = self.classifier.module
        places: Places | None = module.places
        return places

    @classmethod
    def own_networks(cls, options: O, clock: Clock) -> dict[str, Network]:
        """The method's networks besides the classifier, by name."""
        return {}

    @abstractmethod
    def losses(self, step: int) -> dict[str, Loss]:
        """The networks that are updated at a step, in order, each with its loss."""

    def share(self, batch: GlobalBatch, step: int) -> Share:
        """This rank's share of a step's global batch, with host tensors: a pure function, called ahead of the step."""
        return Share(batch.sample_keys[batch.rows], ranks=batch.ranks)

    def prepare(self, batch: Batch, step: int) -> Batch:
        """Add to a part of a batch what several losses need, computed once without gradients."""
        return batch

    def initial_state(self) -> dict[str, Tensor]:
        """The state before the first step."""
        return {}

    def resets(self, step: int) -> Sequence[str]:
        """The networks whose optimisers are reset before this step."""
        return ()

    def learned_mask(self, batch: Batch) -> Tensor | None:
        """The learned mask (B, H, W), for metrics and figures; None for a method without a learned mask."""
        return None

    def warning(self, logged: Mapping[str, float]) -> str | None:
        """A one-line warning about the logged means, or None."""
        return None

    def gather_over_ranks(self, values: Tensor, batch: Batch) -> Tensor:
        """Values (B, ...) of all ranks' batches, concatenated over the global batch. Collective."""
        return self.context.concatenate(values) if batch.ranks > 1 else values

    def step(self, batch: Batch, step: int) -> Scalars:
        """Update each network that learns at this step.

        Returns scalars to log, detached and on the device, because a step never waits: each network's raw terms,
        weights, loss and gradient norm.
        """
        for name in self.resets(step):
            self.networks[name].reset_optimiser()
        with torch.no_grad():
            parts = [self.prepare(part, step) for part in batch.parts(self.context.micro_batches)]
        logged: Scalars = {}
        for name, loss in self.losses(step).items():
            logged |= self._update(name, loss, parts, step)
        return logged

    def probe(self, batch: Batch, step: int) -> Iterator[tuple[str, Terms]]:
        """Yield the weighted terms of each network through its plain module, for gradient norms without an update.

        A generator, so that one network's graph is freed before the next network's graph is built. For one rank alone.
        """
        state = dict(self.state)
        try:
            with torch.no_grad():
                batch = self.prepare(batch, step)
            for name, loss in self.losses(step).items():
                yield name, weighted(loss(self.networks[name].module, batch, step))
        finally:
            self.state = state

    def _update(self, name: str, loss: Loss, parts: Sequence[Batch], step: int) -> Scalars:
        engine, part_losses = self.networks[name], list[Losses]()

        def terms_of(part: Batch) -> Terms:
            losses = loss(engine, part, step)
            part_losses.append({term: (weight, value.detach()) for term, (weight, value) in losses.items()})
            return weighted(losses)

        update = engine.update(terms_of, parts)
        logged: Scalars = {}
        for term, (weight, _) in part_losses[0].items():
            logged[_tag(name, term)] = torch.stack([losses[term][1] for losses in part_losses]).mean(0)
            if weight is not None:
                logged[f"{name}/weight/{term}"] = weight
        loss_value = torch.stack([value.float() for value in update.terms.values()]).sum()
        return logged | {f"{name}/loss": loss_value, f"{name}/gradient_norm": update.gradient_norm}


def weighted(losses: Losses) -> Terms:
    """Each term with a weight, times its weight."""
    return {term: weight * value for term, (weight, value) in losses.items() if weight is not None}


def _tag(network: str, term: str) -> str:
    """`<network>/<term>`; a term that contains a slash, such as mask/area, stays as it is."""
    return term if "/" in term else f"{network}/{term}"


def find_method(name: str) -> type[Method[Any]]:
    """The class of a method. Raises ConfigError for an unknown name."""
    return load_class(name)
