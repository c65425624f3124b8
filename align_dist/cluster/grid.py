"""Grids of runs, a cell each: domains × methods × seeds, or the kinds of a study × seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from align_dist.cluster.study import kinds_of
from align_dist.config import BenchmarkConfig, RunConfig, load_config
from align_dist.config_checks import check_names
from align_dist.data.beton import is_written
from align_dist.data.comparison import checked_manifest
from align_dist.data.manifest import Manifest, with_fingerprint
from align_dist.errors import ConfigError
from align_dist.options.registry import find_entry
from align_dist.runs.results import label_of, variant_of
from align_dist.schema.values import LARGEST_SEED
from align_dist.training_plan import check_data

Manifests = Mapping[BenchmarkConfig, Manifest]
# Keys that a grid sets, and the options that set them.
GRID_KEYS = {"protocol.source": "--domains", "protocol.target": "--domains", "method": "--methods", "seed": "--seeds"}


@dataclass(frozen=True)
class Cell:
    """domain: the source, or the target that is held out in leave-one-domain-out. share_warmup: whether the run begins
    with the warm-up that runs of the grid share.
    """

    domain: str
    config: RunConfig
    share_warmup: bool = False

    @property
    def label(self) -> str:
        """The method, with the variant where the run has one."""
        return label_of(self.config.method, variant_of(self.config))

    @property
    def name(self) -> str:
        return f"{self.domain} {self.label} seed {self.config.seed}"


def cells_of(
    path: Path,
    overrides: Sequence[str],
    domains: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    share_warmup: bool = False,
) -> list[Cell]:
    """The cells in the order domain, method, seed. domains: names, or `all` for all domains of the beton.

    Raises ConfigError for unknown or repeated names, for an override of a key that the grid sets and for a method that
    the data cannot serve, DataError for a beton that differs from the config.
    """
    base = with_fingerprint(load_config(path, list(overrides)))
    check_names(base)
    _refuse_grid_keys(overrides, GRID_KEYS)
    manifests = _manifests_of([base])
    names = _domains_of(base, manifests, list(domains))
    for option, values in (("--domains", names), ("--methods", methods), ("--seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"{option}: takes one or more different values, got {list(values)}")
    for method in methods:
        find_entry(method)
    return _checked(
        [
            Cell(domain, cell_config(base, domain, method, seed), share_warmup)
            for domain in names
            for method in methods
            for seed in seeds
        ],
        manifests,
    )


def study_cells(path: Path, overrides: Sequence[str], seeds: Sequence[int], share_warmup: bool = False) -> list[Cell]:
    """The cells of a study, all seeds of a kind, then those of the next kind: no two that run at once then wait for one
    warm-up. Raises ConfigError and DataError as `cells_of`.
    """
    _refuse_grid_keys(overrides, {"seed": "--seeds"})
    kinds = [with_fingerprint(kind) for kind in kinds_of(path, overrides)]
    for kind in kinds:
        check_names(kind)
    cells = [
        Cell(kind.protocol.source or kind.protocol.target or "", kind.model_copy(update={"seed": seed}), share_warmup)
        for kind in kinds
        for seed in seeds
    ]
    if not seeds or len({cell.config.folder for cell in cells}) < len(cells):
        raise ConfigError(f"{path}: no seed, or one run twice; give each kind an experiment or variant of its own")
    return _checked(cells, _manifests_of(kinds))


def _manifests_of(configs: Sequence[RunConfig]) -> Manifests:
    """The manifest of each beton that is written, compared with its benchmark once."""
    benchmarks = dict.fromkeys(config.benchmark for config in configs)
    return {benchmark: checked_manifest(benchmark) for benchmark in benchmarks if is_written(benchmark.beton)}


def _checked(cells: list[Cell], manifests: Manifests) -> list[Cell]:
    """The cells, those of one seed checked against their data where the beton is written: seeds do not differ there."""
    for cell in cells:
        if cell.config.seed == cells[0].config.seed and cell.config.benchmark in manifests:
            check_data(cell.config, manifests[cell.config.benchmark])
    return cells


def cell_config(base: RunConfig, domain: str, method: str, seed: int) -> RunConfig:
    """The config of one cell: `domain` is held out in leave-one-domain-out, and is the source in other protocols."""
    held_out = base.protocol.kind == "leave_one_out"
    domains = {"source": None, "target": domain} if held_out else {"source": domain, "target": None}
    protocol = base.protocol.model_copy(update=domains)
    return base.with_method(method).model_copy(update={"protocol": protocol, "seed": seed})


def cost_lines(cells: Sequence[Cell]) -> list[str]:
    """A line that says what training takes with shared warm-ups and without; none where the cells share no warm-up, or
    where the beton, which has the length of an epoch, is not written yet.
    """
    if not cells or not cells[0].share_warmup or not is_written(cells[0].config.benchmark.beton):
        return []
    from align_dist.runs.warmup import cost_of  # imports torch

    return [str(cost_of([cell.config for cell in cells]))]


def parse_seeds(text: str) -> list[int]:
    """Seeds from `0:3` (0, 1, 2) or from a list such as `0,4,7`. Raises ConfigError for any other text."""
    wrong = ConfigError(f"--seeds: takes 0:3 for 0, 1, 2, or a list such as 0,4,7, got {text!r}")
    try:
        numbers = [int(part) for part in text.split(":" if ":" in text else ",")]
        if not all(0 <= number <= LARGEST_SEED for number in numbers):
            raise ConfigError(f"--seeds: takes numbers from 0 to {LARGEST_SEED}, got {text!r}")
        if ":" not in text:
            return numbers
        first, end = numbers
    except ValueError:
        raise wrong from None
    if first >= end:
        raise wrong
    return list(range(first, end))


def _refuse_grid_keys(overrides: Sequence[str], options: Mapping[str, str]) -> None:
    for override in overrides:
        key = override.partition("=")[0]
        if key in options:
            raise ConfigError(f"{key}: set by the grid; use {options[key]}")


def _domains_of(base: RunConfig, manifests: Manifests, names: list[str]) -> list[str]:
    """Names of domains, checked where the beton is written; else each job checks its own. `all` needs the beton."""
    benchmark = base.benchmark
    if names != ["all"] and benchmark not in manifests:
        return names
    known = list((manifests[benchmark] if benchmark in manifests else checked_manifest(benchmark)).domains)
    if names == ["all"]:
        return known
    for name in names:
        if name not in known:
            raise ConfigError(f"--domains: {benchmark.name} has no {name!r}; it has {', '.join(known)}")
    return names
