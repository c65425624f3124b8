"""What a step costs: ERM, ALIGN, and Grad-CAM in closed form against a library's second backward."""

from __future__ import annotations

from collections.abc import Callable

import torch

from align_dist.bench.timing import print_ratios, seconds_in_turn
from align_dist.config import RunConfig
from align_dist.methods.erm import ERM
from align_dist.training.assembly import assemble
from align_dist.training.loop import share_of


def bench(config: RunConfig) -> None:
    """Prints images a second of training steps and of explained forwards."""
    run = assemble(config)
    guided = run.schedule.length
    (batch,) = run.loader.shares(lambda _: share_of(run, run.order.batch(0), guided), 1)
    images = len(batch.images)
    erm = ERM({"classifier": run.method.classifier}, run.method.context)

    def finished(work: Callable[[], object]) -> Callable[[], object]:
        """`work`, and on an accelerator the wait for it."""

        def run_and_wait() -> None:
            work()
            if run.device.type == "cuda":
                torch.cuda.synchronize()

        return run_and_wait

    steps = {
        "ERM step": finished(lambda: erm.step(batch, 0)),
        f"{config.method} step, warm-up": finished(lambda: run.method.step(batch, -1)),
        f"{config.method} step, guided": finished(lambda: run.method.step(batch, guided)),
    }
    print_ratios(
        f"{config.classifier.backbone}, batch {images}, {run.device}", seconds_in_turn(steps), images, "ERM step"
    )

    classifier = run.method.classifier.module.eval()

    def by_autograd() -> object:
        return classifier._explain_by_autograd(batch.images, batch.labels)  # type: ignore[operator]

    with torch.no_grad():
        maps = {
            "forward alone": finished(lambda: classifier(batch.images)),
            "forward and Grad-CAM, closed form": finished(lambda: classifier(batch.images, explain=batch.labels)),
            "forward and Grad-CAM, by autograd": finished(by_autograd),
        }
        print_ratios("explanations, no training", seconds_in_turn(maps), images, "forward alone")
