"""The plain engine: one process, one device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


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
        self._clip = float("inf") if gradient_clip is None else gradient_clip
        self._precision = precision
        self._device = next(module.parameters()).device
        self.healthy = torch.ones((), device=self._device)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        with self.autocast():
            return self.module(*inputs, **keywords)

    def update(self, loss: Tensor) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self._clip)
        finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
        self.healthy = self.healthy * finite
        # A fused optimiser skips the step on the device where found_inf is 1: nothing waits for the host.
        self.optimiser.found_inf = 1 - self.healthy  # type: ignore[attr-defined]
        self.optimiser.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        return {"module": self.module.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate

    def autocast(self) -> AbstractContextManager[Any]:
        if self._precision == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, self._precision)


def make_optimiser(module: nn.Module, name: str, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD with momentum 0.9, fused: that form honours `found_inf` (and is the fastest)."""
    parameters = list(module.parameters())
    if name == "sgd":
        return torch.optim.SGD(parameters, learning_rate, momentum=0.9, weight_decay=weight_decay, fused=True)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(parameters, learning_rate, weight_decay=weight_decay, fused=True)
