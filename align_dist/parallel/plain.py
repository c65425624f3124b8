"""The plain engine: one process, one device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from align_dist.parallel.batchnorm import restore_statistics, snapshot_statistics
from align_dist.parallel.engine import (
    Engine,
    Part,
    Terms,
    Update,
    in_memory_format_of,
    mean_of,
    nan_unless_finite,
    total,
    trainable_parameters,
    zero_optimiser_state,
)


class PlainEngine:
    """See `parallel.engine.Engine`. precision: the dtype of autocast, or float32 for none."""

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        gradient_clip: float | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.module = module
        self.optimiser = optimiser
        self._clip = gradient_clip
        self._precision = precision
        self._device = next(module.parameters()).device
        self.healthy = torch.ones((), dtype=torch.float32, device=self._device)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        with self.autocast():
            return self.module(*inputs, **keywords)

    def update(self, terms_of: Callable[[Part], Terms], parts: Sequence[Part]) -> Update:
        self.optimiser.zero_grad(set_to_none=True)
        snapshot = snapshot_statistics(self.module)
        part_terms = []
        for index, part in enumerate(parts):
            with self._reducing(index == len(parts) - 1):
                part_terms.append(terms_of(part))
                nan_unless_finite(total(part_terms[-1]) / len(parts)).backward()
        norm = self.clip()
        self.healthy = self.healthy * torch.isfinite(norm)
        # A fused optimiser skips the step on the device where found_inf is 1, without waiting for the host.
        self.optimiser.found_inf = 1 - self.healthy  # type: ignore[attr-defined]
        self.optimiser.step()
        self._average_statistics()
        restore_statistics(snapshot, self.healthy)
        return Update(mean_of(part_terms), norm.detach())

    def weights(self) -> dict[str, Tensor]:
        return self.module.state_dict()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        self.module.load_state_dict(weights)

    def state_dict(self) -> dict[str, Any]:
        return {"module": self.weights(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.load_weights(state["module"])
        parameters = list(trainable_parameters(self.module).values())
        self.optimiser.load_state_dict(in_memory_format_of(parameters, state["optimiser"]))

    def reset_optimiser(self) -> None:
        zero_optimiser_state(self.optimiser)

    def local_copy(self) -> Engine:
        return self

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate

    def autocast(self) -> AbstractContextManager[Any]:
        if self._precision == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, self._precision)

    def clip(self) -> Tensor:
        """Clip the gradients, and return their norm before clipping. Without a limit gradients stay unchanged."""
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._clip is not None:
            nn.utils.clip_grads_with_norm_(self.module.parameters(), self._clip, norm)
        return norm

    def _average_statistics(self) -> None:
        """Average running statistics that each rank has updated with its own images."""

    def _reducing(self, last: bool) -> AbstractContextManager[Any]:
        """The context of forward and backward of one part; of several ranks only the last part is all-reduced."""
        return nullcontext()


def make_optimiser(module: nn.Module, name: str, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD with momentum 0.9, fused, because fused optimisers support `found_inf` (and are fastest)."""
    parameters = list(trainable_parameters(module).values())
    if name == "sgd":
        return torch.optim.SGD(parameters, learning_rate, momentum=0.9, weight_decay=weight_decay, fused=True)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(parameters, learning_rate, weight_decay=weight_decay, fused=True)
