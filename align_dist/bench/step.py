"""Speed of a step in both precisions: ERM, the run's method, and Grad-CAM in closed form and by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from align_dist.assembly import Assembly, assemble, make_networks
from align_dist.bench.counts import count
from align_dist.bench.timing import interleaved_seconds, print_ratios
from align_dist.config import RunConfig
from align_dist.data.batch import Batch
from align_dist.methods.base import Method
from align_dist.methods.erm import ERM
from align_dist.options import Options
from align_dist.training.batches import share_of

PRECISIONS = ("float32", "bfloat16")
Work = Callable[[], object]


def bench(config: RunConfig) -> None:
    """Print images per second of training steps and of forward passes with explanations."""
    run = assemble(config)
    (batch,) = run.loader.shares(lambda _: share_of(run, run.order.batch(0), run.schedule.length), 1)
    methods = {precision: _method_in(run, precision) for precision in PRECISIONS}
    steps: dict[str, Work] = {}
    for precision, method in methods.items():
        steps |= {f"{name}, {precision}": _synchronised(run, work) for name, work in _steps(run, method, batch).items()}
    title = f"{config.classifier.backbone}, batch {len(batch.images)}, {run.device}, {torch.get_num_threads()} threads"
    print_ratios(
        f"{title}; training.precision is {config.training.precision}",
        interleaved_seconds(steps),
        len(batch.images),
        f"ERM step, {PRECISIONS[0]}",
    )
    for name, work in steps.items():
        counts = count(work)
        print(
            f"  {name:36} {counts.operations} operations, {counts.launches} kernels, {counts.reads} waits of the host"
        )
    _explanations(run, methods[config.training.precision], batch)


def _method_in(run: Assembly, precision: str) -> Method[Any]:
    """The run's method with new networks, in one precision."""
    config = run.config
    config = config.model_copy(update={"training": config.training.model_copy(update={"precision": precision})})
    networks = make_networks(config, run.trainable_networks, run.device, run.group)
    return type(run.method)(networks, run.method.options, run.method.context)


def _steps(run: Assembly, method: Method[Any], batch: Batch) -> dict[str, Work]:
    erm, name = ERM({"classifier": method.classifier}, Options(), method.context), run.config.method
    return {
        "ERM step": lambda: erm.step(batch, 0),
        f"{name} step, warm-up": lambda: method.step(batch, -1),
        f"{name} step, guided": lambda: method.step(batch, run.schedule.length),
    }


def _synchronised(run: Assembly, work: Work) -> Work:
    """`work`, followed on an accelerator by a wait until it is done."""

    def run_and_wait() -> None:
        work()
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    return run_and_wait


def _explanations(run: Assembly, method: Method[Any], batch: Batch) -> None:
    classifier = method.classifier.module.eval()

    def by_autograd() -> object:
        return classifier._explain_by_autograd(batch.images, batch.labels)  # type: ignore[operator]

    with torch.no_grad():
        maps = {
            "forward alone": _synchronised(run, lambda: classifier(batch.images)),
            "forward and Grad-CAM, closed form": _synchronised(
                run, lambda: classifier(batch.images, explain=batch.labels)
            ),
            "forward and Grad-CAM, by autograd": _synchronised(run, by_autograd),
        }
        print_ratios("explanations, no training", interleaved_seconds(maps), len(batch.images), "forward alone")
