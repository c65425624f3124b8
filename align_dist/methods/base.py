"""What a method is: its networks and its step. Adding one is a class here and a line in `registry`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from align_dist.config import ObjectiveConfig
from align_dist.data.loader import Batch
from align_dist.data.share import GlobalBatch, Share
from align_dist.parallel.engine import Engine, Terms, Update

Forward = Callable[..., Any]


def _unchanged(values: Tensor) -> Tensor:
    """The global batch of a single rank."""
    return values


@dataclass(frozen=True)
class Context:
    """What a method is built from. All in steps; `epoch` is steps per epoch (not whole).

    warmup: where guidance starts. masker_start: where the masker does, at or before that. sparsity_ramp: how
    long λ1 then takes from 0 to its value. micro_batches: the parts a rank goes through its batch in. concatenate:
    every rank's (B, ...) one after another, differentiable; collective.
    """

    objective: ObjectiveConfig
    warmup: int
    masker_start: int
    epoch: float
    seed: int
    sparsity_ramp: int = 0
    micro_batches: int = 1
    concatenate: Callable[[Tensor], Tensor] = _unchanged


class Method(ABC):
    """A way to train. `networks` maps `classifier` (and `masker`) to engines."""

    # Networks besides the classifier that a method needs.
    uses_masker = False
    # Dotted keys of a config that change nothing before the masker begins and guidance starts: runs that differ in
    # these alone are one run until then.
    silent_in_warmup: tuple[str, ...] = ()

    def __init__(self, networks: dict[str, Engine], context: Context) -> None:
        self.networks = networks
        self.context = context
        self.classifier = networks["classifier"]

    @classmethod
    def uses_true_masks(cls, _objective: ObjectiveConfig) -> bool:
        """Whether training batches must bring true masks."""
        return False

    @abstractmethod
    def step(self, batch: Batch, step: int) -> Terms:
        """One update of whatever this step updates; returns detached scalars on the device, nothing waits."""

    @abstractmethod
    def probe(self, batch: Batch, step: int) -> Iterator[tuple[str, Terms]]:
        """The same weighted terms by network, through the plain modules: for gradient norms, not for updates.

        A generator, so that one network's graph is gone before the next one's is made; no rank's business but one's.
        """

    def share(self, batch: GlobalBatch, step: int) -> Share:
        """What this rank reads of a step's global batch and takes along: a pure function, called ahead of the step."""
        return Share(batch.draws[batch.rows])

    def guided(self, step: int) -> bool:
        """Whether warm-up is over at this step."""
        return step >= self.context.warmup

    def mask(self, batch: Batch) -> Tensor | None:
        """The mask (B, H, W) that guides this method on a batch, or None where nothing does."""
        return None


def scalars(network: str, update: Update) -> Terms:
    """Terms as they are logged: `<network>/<term>`, with the gradient norm of their sum."""
    named = {f"{network}/{name}": term for name, term in update.terms.items()}
    return {**named, f"{network}/gradient_norm": update.gradient_norm}
