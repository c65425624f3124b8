"""Monitoring of a run: TensorBoard, metrics.jsonl, and the guard against non-finite numbers."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from align_dist.config import to_yaml
from align_dist.errors import NonFiniteError
from align_dist.methods.base import Method, Scalars
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import IMAGES_PER_SECOND, WAITING_FOR_DATA, write_metrics
from align_dist.training.layout import scalar_layout

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

    from align_dist.assembly import Assembly


class Monitor:
    """A collector of scalars on the device, which reach the host once every `log_every` steps.

    Every rank has one: `add` and `flush` are for all, what writes is for rank 0.
    """

    def __init__(self, run: Assembly, folder: RunFolder, step: int) -> None:
        self._folder, self._run, self._start = folder, run, step
        self._pending: list[tuple[int, Scalars]] = []
        self._images, self._waited, self._since = 0, 0.0, time.perf_counter()
        self._warned: set[str] = set()

    @cached_property
    def _events(self) -> SummaryWriter:
        """Opened by the first thing written, so only where something is."""
        from torch.utils.tensorboard.writer import SummaryWriter

        events = SummaryWriter(str(self._folder.events), purge_step=self._start + 1)
        events.add_text("config", f"```yaml\n{to_yaml(self._run.config)}\n```", self._start)
        events.add_custom_scalars(scalar_layout([*self._run.method.networks]))
        return events

    def add(self, step: int, terms: Scalars, images: int, waited: float) -> None:
        """Scalars of one step, its images, and the seconds it waited for them."""
        self._pending.append((step, terms))
        self._images += images
        self._waited += waited

    def flush(self) -> dict[str, float]:
        """Means of the pending scalars over steps and ranks, written at the newest step; collective.

        Raises NonFiniteError, on every rank, if one went bad.
        """
        if not self._pending:
            return {}
        step = self._pending[-1][0]
        means = self._check_and_average()
        seconds = max(time.perf_counter() - self._since, 1e-9)
        speed = {IMAGES_PER_SECOND: self._images / seconds, WAITING_FOR_DATA: self._waited / seconds}
        self._pending, self._images, self._waited, self._since = [], 0, 0.0, time.perf_counter()
        self._run.group.run_on_first(lambda: self.write(step, {**means, **speed}))
        return {**means, **speed}

    def first_of_its_kind(self, kind: str, warning: str | None) -> str | None:
        """A warning, where none of its kind has been given since the run was started or went on."""
        if warning is None or kind in self._warned:
            return None
        self._warned.add(kind)
        return warning

    def write(self, step: int, values: dict[str, float]) -> None:
        """Scalars to TensorBoard and metrics.jsonl; `step` counts finished steps."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        write_metrics(self._folder.metrics, step, step / self._run.schedule.epoch, values)

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """An image (3, H, W) in [0, 1]."""
        self._events.add_image(name, image, step)

    def close(self) -> None:
        if "_events" in vars(self):
            self._events.close()

    def _check_and_average(self) -> dict[str, float]:
        """One copy to the host for all pending scalars."""
        scalars = [(step, name, value) for step, terms in self._pending for name, value in terms.items()]
        tensors = [(step, name, value) for step, name, value in scalars if isinstance(value, Tensor)]
        keys = [(step, name) for step, name, _ in tensors]
        stacked = torch.stack([value.float() for _, _, value in tensors])
        values = self._run.group.mean_(stacked).cpu().tolist()
        health = {name: float(engine.healthy) for name, engine in self._run.method.networks.items()}
        if any(value < 1 for value in health.values()):
            raise NonFiniteError(_blame(keys, values, health))
        collected: dict[str, list[float]] = {}
        for (_, name), value in zip(keys, values, strict=True):
            collected.setdefault(name, []).append(value)
        for _, name, known in scalars:
            if not isinstance(known, Tensor):
                collected.setdefault(name, []).append(known)
        return {name: sum(values) / len(values) for name, values in collected.items()}


def _blame(keys: list[tuple[int, str]], values: list[float], health: dict[str, float]) -> str:
    """The first term that is not finite; gradient norms speak only when every loss is fine."""
    bad = [key for key, value in zip(keys, values, strict=True) if value != value or abs(value) == float("inf")]
    if not bad:
        network = next(name for name, value in health.items() if value < 1)
        return f"{network}: a loss or gradient was not finite; nothing was updated since, the last checkpoint is good"
    first = min(step for step, _ in bad)
    names = [name for step, name in bad if step == first]
    losses = [name for name in names if not name.endswith(("gradient_norm", "loss"))] or names
    return (
        f"{losses[0]} is not finite at step {first}; that update was not made and the last checkpoint is good: "
        "lower the learning rate or the term's weight, or set training.gradient_clip"
    )


def gradient_norms(method: Method[Any], batch: Any, step: int) -> dict[str, float]:
    """Norm of each weighted term's own gradient, by `<network>/gradient_norm/<term>`.

    Taken through the plain modules in evaluation mode, so nothing of the run moves.
    """
    norms: dict[str, float] = {}
    for engine in method.networks.values():
        engine.module.eval()
    for name, terms in method.probe(batch, step):
        parameters = [p for p in method.networks[name].module.parameters() if p.requires_grad]
        for term, value in terms.items():
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            squares = [g.float().square().sum() for g in gradients if g is not None]
            norms[f"{name}/gradient_norm/{term}"] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
        # The graph goes before the next network's is made.
        terms.clear()
        del value
    for engine in method.networks.values():
        engine.module.train()
    return norms
