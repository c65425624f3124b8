"""Folders of runs that were never trained, in the form that real ones have, for tests of reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from align_dist.runs.details import Curves, Details, Examples, write_details
from align_dist.runs.metrics import write_metrics


def made_details(classes: tuple[str, ...]) -> Details:
    """Of one image that is half object, seen by its upper half."""
    zero, pixels = np.zeros(1, np.int64), np.zeros((1, 8, 8), np.uint8)
    upper = pixels.copy()
    upper[:, :4] = 255
    examples = Examples(zero, zero, zero, np.ones(1), np.repeat(pixels[..., None], 3, -1), upper, upper[:0], upper)
    ramp = np.linspace(0, 1, 5)
    confusion, calibration = np.array([[4, 0], [0, 0]]), np.array([[4.0, 3, 4]])
    return Details("validation", 9, "", classes, confusion, calibration, Curves(ramp, 1 - ramp, 1), examples)


def make_run(folder: Path, method: str, seed: int, is_done: bool = True, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    rows = [
        {
            "run": folder.name, "experiment": "demo", "benchmark": "embedded", "method": method,
            "variant": "", "backbone": "resnet8", "protocol": "single_source", "source": "in", "target": None,
            "seed": seed, "selection": selection, "step": 9, "domain": domain, "images": 4,
            "role": "in_domain" if domain == "in" else "out_of_domain",
            "metrics": {"accuracy": 0.5 + seed / 10},
        } | changes
        for selection in ("last", "validation")
        for domain in ("in", "out")
    ]  # fmt: skip
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (1, 2):
        write_metrics(folder / "metrics.jsonl", step, step / 2, {"classifier/loss": 2.0 / step})
    (folder / "config.yaml").write_text(f"method: {method}\nseed: {seed}\nalign:\n  lambda3: 0.5\n")
    write_details(folder / "details", dict.fromkeys(("in", "out"), made_details(("a", "b"))))
    if is_done:
        (folder / "done").touch()
    return folder
