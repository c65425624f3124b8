"""Rows of results, for tests of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align_dist.runs.results import Row, parse_row


def row(
    method: str = "erm",
    seed: int = 0,
    domain: str = "out",
    metrics: Mapping[str, float] | None = None,
    **changes: Any,
) -> Row:
    """A row; the domain "in" is the source."""
    return parse_row(
        {
            "run": f"{method}-{seed}", "benchmark": "embedded", "method": method, "variant": "",
            "backbone": "resnet8", "protocol": "single_source", "source": "in", "target": None, "seed": seed,
            "selection": "validation", "step": 10, "domain": domain, "images": 5,
            "role": "in_domain" if domain == "in" else "out_of_domain", "metrics": dict(metrics or {}),
        } | changes
    )  # fmt: skip


def accuracies(method: str, domain: str, values: list[float], **changes: Any) -> list[Row]:
    return [row(method, seed, domain, {"accuracy": v}, **changes) for seed, v in enumerate(values)]
