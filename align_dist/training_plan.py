"""Split, order and schedule of a run, from its config and its beton alone, and their checks. Imports no torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from align_dist.config import BenchmarkConfig, DataConfig, ProtocolConfig, RunConfig
from align_dist.data.beton import verify_beton
from align_dist.data.hashing import Stamp, stamp_of
from align_dist.data.manifest import Manifest
from align_dist.data.sample_keys import Order, make_order
from align_dist.data.split_checks import check_split
from align_dist.data.splits import Split, make_split
from align_dist.errors import ConfigError
from align_dist.schedule import Schedule, make_schedule


def split_of(manifest: Manifest, config: RunConfig) -> Split:
    """The run's training, validation and test parts."""
    protocol = config.protocol
    split = make_split(
        manifest,
        kind=protocol.kind,
        source=protocol.source,
        target=protocol.target,
        validation_fraction=protocol.validation_fraction,
        test_fraction=protocol.test_fraction,
        seed=protocol.seed,
        keep_together=protocol.keep_together,
    )
    check_split(manifest, split)
    return split


def counts_of(manifest: Manifest, split: Split) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Number of training images per domain and per group, in the manifest's order."""

    def counts(indices: tuple[int, ...], length: int) -> tuple[int, ...]:
        return tuple(np.bincount(np.asarray(indices)[split.train], minlength=length).tolist()) if length else ()

    return (
        counts(manifest.domain_indices, len(manifest.domains)),
        counts(manifest.group_indices, len(manifest.group_names)),
    )


def training_order(manifest: Manifest, split: Split, config: RunConfig) -> Order:
    """The order of the training part, with equal parts of each batch for what data.balance names."""
    if len(split.train) < config.data.batch_size:
        raise ConfigError(
            f"data.batch_size: {config.data.batch_size} is more than the {len(split.train)} training images; lower it"
        )
    streams = _streams(manifest, split, config.data.balance)
    if config.data.batch_size < len(streams):
        kinds = f"the {len(streams)} {config.data.balance} equal parts"
        raise ConfigError(f"data.batch_size: {config.data.batch_size} images cannot give {kinds}; raise it")
    return make_order(streams, config.data.batch_size, config.seed, is_mixed=config.data.balance == "groups")


def _streams(manifest: Manifest, split: Split, balance: str) -> tuple[NDArray[np.int64], ...]:
    """The training part by domain or by group, or undivided."""
    if balance == "groups" and not manifest.group_names:
        raise ConfigError("data.balance: the benchmark has no groups; name them (benchmark.metadata), or take domains")
    # `none` also concatenates the domains one after another, because the order of a seed depends on it.
    indices = manifest.group_indices if balance == "groups" else manifest.domain_indices
    numbers = np.asarray(indices)[split.train]
    parts = tuple(split.train[numbers == number] for number in np.unique(numbers))
    return (np.concatenate(parts),) if balance == "none" else parts


def checked_schedule(manifest: Manifest, split: Split, order: Order, config: RunConfig) -> Schedule:
    """The run's schedule. Raises ConfigError where the method or a selection of weights needs what the data lack."""
    if "validation_worst_group" in config.evaluation.selections and not manifest.group_names:
        raise ConfigError(
            f"evaluation.selections: validation_worst_group needs groups and {config.benchmark.beton} has none; "
            "name the groups in a file (benchmark.metadata) or remove this selection"
        )
    domains, groups = (sum(map(bool, counts)) for counts in counts_of(manifest, split))
    problem = config.options.unmet_requirement(domains, groups)
    if problem:
        raise ConfigError(f"method: {config.method} {problem}")
    schedule = _schedule(config, order.steps_per_epoch)
    # A run of warm-up alone needs no masks: it is the shared trunk of trials whose masks come from elsewhere.
    if config.options.reads_masks and not manifest.has_masks and schedule.warmup < schedule.length:
        raise ConfigError(
            f"method: {config.method} needs masks, and {config.benchmark.beton} has none; name a folder of masks "
            f"(benchmark.masks, which `align-dist data masks` can fill), or set {config.method}.mask=gaussian"
        )
    return schedule


def check_data(config: RunConfig, manifest: Manifest) -> None:
    """Raise ConfigError or DataError where the beton of a manifest cannot give what the run needs."""
    split = split_of(manifest, config)
    checked_schedule(manifest, split, training_order(manifest, split, config), config)


def schedule_of(config: RunConfig) -> Schedule:
    """A run's schedule in steps, from its beton alone. Raises a UserError where the config and the beton disagree."""
    written = stamp_of(config.benchmark.beton)
    return _schedule(config, _steps_per_epoch(config.benchmark, config.protocol, config.data, written))


def _schedule(config: RunConfig, steps_per_epoch: float) -> Schedule:
    """The schedule, in which the method's own lengths have a place."""
    schedule = make_schedule(config.training, steps_per_epoch)
    config.options.check(schedule.clock)
    return schedule


@lru_cache
def _steps_per_epoch(benchmark: BenchmarkConfig, protocol: ProtocolConfig, data: DataConfig, _written: Stamp) -> float:
    """Cached while the beton is unchanged: reading a beton takes longer than the rest of planning."""
    config = RunConfig(benchmark=benchmark, protocol=protocol, data=data)
    manifest = verify_beton(benchmark.beton, quick=True)
    return training_order(manifest, split_of(manifest, config), config).steps_per_epoch
