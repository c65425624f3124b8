"""What a method is: its options, its networks, its losses and its state. The step, its parts, what is logged and the
gradient probe follow from the losses.

Adding a method is a file here and a line in `registry`.
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
from align_dist.methods.clock import Clock
from align_dist.methods.options import Options
from align_dist.parallel.engine import Engine, Terms
from align_dist.places import Places
from align_dist.schema.values import OptimiserConfig

O = TypeVar("O", bound=Options)  # noqa: E741
Forward = Callable[..., Any]
# A term's weight and its raw value, a 0-d tensor; without a weight it is shown and not learned from.
Losses = Mapping[str, tuple[float | None, Tensor]]
# Of a network's forward (its engine, or its module in a probe), a part of a batch and the step.
Loss = Callable[[Forward, Batch, int], Losses]
Scalars = dict[str, Tensor | float]


def _unchanged(values: Tensor) -> Tensor:
    """The global batch of a single rank."""
    return values


@dataclass(frozen=True)
class Context:
    """What a method is told of its run. micro_batches: the parts a rank goes through its batch in.

    concatenate: every rank's (B, ...) one after another. sum_over_ranks: the sum of every rank's tensor. Gradients pass
    through both; both are collective. domain_counts, group_counts: training pictures of each of the benchmark's
    domains and groups, 0 for a domain that is no source; no entries for a benchmark without groups.
    """

    clock: Clock
    seed: int
    micro_batches: int = 1
    concatenate: Callable[[Tensor], Tensor] = _unchanged
    sum_over_ranks: Callable[[Tensor], Tensor] = _unchanged
    domain_counts: tuple[int, ...] = ()
    group_counts: tuple[int, ...] = ()


class Network(NamedTuple):
    """A network that learns. build: makes it, its weights following from torch's seed. start: the step at which the
    clock of its learning rate starts. end: where it ends; None for the run's end.
    """

    build: Callable[[], nn.Module]
    optimiser: OptimiserConfig
    start: int = 0
    end: int | None = None


class Method(ABC, Generic[O]):
    """A way to train. networks: engines by name, the classifier's and those of `own_networks`.

    state: tensors on the device that the method keeps from step to step, equal on all ranks, part of a checkpoint.
    A loss gives an entry another tensor and never changes one in place.
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
        """Where in an image the cells of the classifier's maps lie; None for cells that divide it evenly."""
        module: Any = self.classifier.module
        places: Places | None = module.places
        return places

    @classmethod
    def own_networks(cls, options: O, clock: Clock) -> dict[str, Network]:
        """The networks besides the classifier, by name."""
        return {}

    @abstractmethod
    def losses(self, step: int) -> dict[str, Loss]:
        """The networks that learn at a step, in order, each with its loss."""

    def share(self, batch: GlobalBatch, step: int) -> Share:
        """What this rank reads of a step's global batch and takes along: a pure function, called ahead of the step."""
        return Share(batch.draws[batch.rows], ranks=batch.ranks)

    def prepare(self, batch: Batch, step: int) -> Batch:
        """A part of a batch with what several losses need of it, found once, without gradients."""
        return batch

    def initial_state(self) -> dict[str, Tensor]:
        """The state before the first step."""
        return {}

    def resets(self, step: int) -> Sequence[str]:
        """The networks whose optimisers forget what they have seen before this step."""
        return ()

    def learned_mask(self, batch: Batch) -> Tensor | None:
        """The mask (B, H, W) that the method has learned, to be measured and shown; None where it learns none."""
        return None

    def warning(self, logged: Mapping[str, float]) -> str | None:
        """What is odd about the means that were logged, in one line; None where nothing is."""
        return None

    def everyones(self, values: Tensor, batch: Batch) -> Tensor:
        """Values (B, ...) of a whole batch, of all ranks that share its global one, one after another. Collective."""
        return self.context.concatenate(values) if batch.ranks > 1 else values

    def step(self, batch: Batch, step: int) -> Scalars:
        """One update of each network that learns at this step.

        Returns what is logged, detached and on the device, for nothing waits: of each network its raw terms, their
        weights, the loss, and the gradient's norm.
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
        """The weighted terms of each network through its plain module: for gradient norms, not for updates.

        A generator, so that one network's graph is gone before the next one's is made; no rank's business but one's.
        """
        kept = dict(self.state)
        try:
            with torch.no_grad():
                batch = self.prepare(batch, step)
            for name, loss in self.losses(step).items():
                yield name, weighted(loss(self.networks[name].module, batch, step))
        finally:
            self.state = kept

    def _update(self, name: str, loss: Loss, parts: Sequence[Batch], step: int) -> Scalars:
        engine, found = self.networks[name], list[Losses]()

        def terms_of(part: Batch) -> Terms:
            losses = loss(engine, part, step)
            found.append({term: (weight, value.detach()) for term, (weight, value) in losses.items()})
            return weighted(losses)

        update = engine.update(terms_of, parts)
        logged: Scalars = {}
        for term, (weight, _) in found[0].items():
            logged[_tag(name, term)] = torch.stack([losses[term][1] for losses in found]).mean(0)
            if weight is not None:
                logged[f"{name}/weight/{term}"] = weight
        loss_value = torch.stack([value.float() for value in update.terms.values()]).sum()
        return logged | {f"{name}/loss": loss_value, f"{name}/gradient_norm": update.gradient_norm}


def weighted(losses: Losses) -> Terms:
    """Each term that is learned from, times its weight."""
    return {term: weight * value for term, (weight, value) in losses.items() if weight is not None}


def _tag(network: str, term: str) -> str:
    """`<network>/<term>`; a term with a room of its own, such as mask/area, keeps it."""
    return term if "/" in term else f"{network}/{term}"
