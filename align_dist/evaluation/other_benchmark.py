"""Evaluation of a run on another benchmark, whose domains are all targets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from align_dist.assembly import Assembly, make_loader
from align_dist.config import BenchmarkConfig
from align_dist.data.comparison import checked_manifest
from align_dist.data.splits import Split

NONE = np.empty(0, np.int64)


def on_other_benchmark(run: Assembly, benchmark: BenchmarkConfig) -> Assembly:
    """The same networks with another benchmark's images."""
    config = run.config.model_copy(update={"benchmark": benchmark})
    manifest = checked_manifest(benchmark)
    domains = np.asarray(manifest.domain_indices)
    tests = {name: np.flatnonzero(domains == index) for index, name in enumerate(manifest.domains)}
    loader = make_loader(config, manifest, run.device)
    return replace(run, config=config, manifest=manifest, split=Split(NONE, NONE, tests, {}), loader=loader)
