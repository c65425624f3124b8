"""The DeepSpeed engine: ZeRO 0 to 3 behind the same contract."""

from __future__ import annotations

import copy
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from align_dist.errors import missing_package
from align_dist.parallel import zero_state
from align_dist.parallel.batchnorm import average_statistics, restore_statistics, snapshot_statistics
from align_dist.parallel.deepspeed_settings import zero_stage
from align_dist.parallel.engine import (
    Engine,
    Part,
    Terms,
    Update,
    mean_of,
    nan_unless_finite,
    total,
    zero_optimiser_state,
)
from align_dist.parallel.group import Group
from align_dist.parallel.plain import PlainEngine


class ZeroEngine:
    """See `parallel.engine.Engine`. settings: a complete DeepSpeed config for this engine alone.

    The precision is torch's autocast around the network, as in the other engines: weights, gradients and all-reduces
    stay float32 (DeepSpeed's bf16 mode would change all three).
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        settings: dict[str, Any],
        group: Group,
        *,
        gradient_clip: float | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.module = module
        self.stage = zero_stage(settings)
        # The reader's network: a copy from before parameters are sharded.
        self._reader = _reader_of(module, precision) if self.stage == 3 else None
        self._plain = PlainEngine(module, optimiser, gradient_clip=gradient_clip, precision=precision)
        self.optimiser = optimiser
        self.healthy = self._plain.healthy
        self._group = group
        wrapped = _InAutocast(module, self._plain.autocast)
        self._engine = _initialise(wrapped, optimiser, settings)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return self._engine(*inputs, **keywords)

    def update(self, terms_of: Callable[[Part], Terms], parts: Sequence[Part]) -> Update:
        snapshot = snapshot_statistics(self.module)
        part_terms = []
        for index, part in enumerate(parts):
            part_terms.append(terms_of(part))
            self._engine.backward(nan_unless_finite(total(part_terms[-1])))  # divides by the number of parts
            if index < len(parts) - 1:
                self._engine.step()  # counts the part; nothing is reduced or updated before the last part
        norm = self._step_whole() if self.stage == 0 else self._step_sharded()
        average_statistics(self.module, self._group)
        restore_statistics(snapshot, self.healthy)
        return Update(mean_of(part_terms), norm)

    def _step_whole(self) -> Tensor:
        """Clip and step without ZeRO: every rank holds the averaged gradients before the step, as under DDP."""
        norm = self._plain.clip().detach()
        self.healthy = self.healthy * torch.isfinite(norm)
        self.optimiser.found_inf = 1 - self.healthy  # type: ignore[attr-defined]
        self._engine.step()
        return norm

    def _step_sharded(self) -> Tensor:
        """Step with ZeRO, which computes the norm and skips a step that is not finite; found_inf skips later steps."""
        self.optimiser.found_inf = 1 - self.healthy  # type: ignore[attr-defined]
        self._engine.step()
        norm = torch.as_tensor(self._engine.get_global_grad_norm(), dtype=torch.float32, device=self.healthy.device)
        self.healthy = self.healthy * torch.isfinite(norm)
        return norm

    def weights(self) -> dict[str, Tensor]:
        return zero_state.gather_weights(self.module, self.stage)

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        zero_state.scatter_weights(self.module, weights, self.stage)

    def state_dict(self) -> dict[str, Any]:
        optimiser = zero_state.gather_optimiser(self._engine.optimizer, self.optimiser, self.module, self.stage)
        return {"module": self.weights(), "optimiser": optimiser}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.load_weights(state["module"])
        zero_state.scatter_optimiser(
            self._engine.optimizer, self.optimiser, self.module, self.stage, state["optimiser"]
        )

    def reset_optimiser(self) -> None:
        zero_optimiser_state(self.optimiser)

    def local_copy(self) -> Engine:
        if self._reader is None:
            return self
        self._reader.load_weights(self.weights())
        return self._reader

    def autocast(self) -> AbstractContextManager[Any]:
        return self._plain.autocast()

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate


class _InAutocast(nn.Module):
    """A module with autocast inside the wrapped forward pass, because DeepSpeed turns off autocast from outside."""

    def __init__(self, inner: nn.Module, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        super().__init__()
        self.inner, self._autocast = inner, autocast

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        with self._autocast():
            return self.inner(*inputs, **keywords)


def _reader_of(module: nn.Module, precision: torch.dtype) -> PlainEngine:
    copied = copy.deepcopy(module)
    return PlainEngine(copied, torch.optim.SGD(copied.parameters(), 0.0), precision=precision)


def _initialise(module: nn.Module, optimiser: torch.optim.Optimizer, settings: dict[str, Any]) -> Any:
    try:
        import deepspeed
    except ModuleNotFoundError:
        raise missing_package("deepspeed", "distributed.engine=deepspeed", "deepspeed") from None
    deepspeed.utils.logger.setLevel(logging.ERROR)
    # Otherwise DeepSpeed spends a minute on CPUs compiling an inference operator that training never calls.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    deepspeed.comm.init_distributed(verbose=False)  # uses the existing process group
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimiser, config=settings)
    return engine
