"""The benchmarks by name. A new benchmark needs a reader and a line in READERS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from align_dist.config import BenchmarkConfig
from align_dist.config.sections import USUAL_AGREEMENT
from align_dist.data.catalogue import Catalogue, Sample, attach_masks, check_classes, check_labels
from align_dist.data.counts import PACS_TOTALS, TERRA_COUNTS, VLCS_COUNTS, count_warnings
from align_dist.data.embedded import check_marker, is_embedded, make_embedded
from align_dist.data.folders import read_errors, read_folders
from align_dist.data.metadata import attach_metadata
from align_dist.data.terra import WHERE as TERRA_WHERE
from align_dist.data.terra import read_terra_json
from align_dist.data.waterbirds import read_waterbirds
from align_dist.errors import ConfigError, DataError, nearest_name

__all__ = ["READERS", "Catalogue", "Sample", "count_warnings", "read_benchmark", "read_configured_benchmark"]

VLCS_WHERE = "get VLCS with DomainBed's scripts/download.py and put its four domain folders there"
PACS_WHERE = "get PACS with DomainBed's scripts/download.py and put its four domain folders there"


def _read_known(name: str, roots: list[Path], domains: list[str], remedy: str) -> Catalogue:
    """Read the first root that holds any of the domains; DataError unless the root holds all domains."""
    for root in roots:
        present = [domain for domain in domains if (root / domain).is_dir()]
        if present:
            absent = sorted(set(domains) - set(present))
            if absent:
                raise DataError(f"{root}: no domain folder {', '.join(absent)}; {remedy}")
            return read_folders(name, root, sorted(domains))
    raise DataError(f"{roots[-1]}: none of the domain folders {', '.join(domains)}; {remedy}")


def _read_vlcs(root: Path) -> Catalogue:
    return _read_known("vlcs", [root / "VLCS", root], list(VLCS_COUNTS), VLCS_WHERE)


def _read_pacs(root: Path) -> Catalogue:
    roots = [root / "PACS", root / "pacs", root / "kfold", root]
    return _read_known("pacs", roots, list(PACS_TOTALS), PACS_WHERE)


def _read_terra(root: Path) -> Catalogue:
    roots = [root / "terra_incognita", root]
    if any((folder / "location_38").is_dir() for folder in roots):
        return _read_known("terra_incognita", roots, list(TERRA_COUNTS), TERRA_WHERE)
    return read_terra_json(root)


def _read_folders(root: Path) -> Catalogue:
    return read_folders("folders", root)


def _read_embedded(root: Path, agreement: float = USUAL_AGREEMENT) -> Catalogue:
    if not is_embedded(root):
        make_embedded(root, agreement=agreement)
    check_marker(root, agreement)
    catalogue = read_folders("embedded", root / "images")
    return replace(attach_masks(catalogue, root / "masks"), agreement=agreement)


READERS: dict[str, Callable[[Path], Catalogue]] = {
    "vlcs": _read_vlcs,
    "terra_incognita": _read_terra,
    "pacs": _read_pacs,
    "folders": _read_folders,
    "embedded": _read_embedded,
    "waterbirds": read_waterbirds,
}


def find_reader(name: str) -> Callable[[Path], Catalogue]:
    """The reader of benchmark `name`. Raises ConfigError for an unknown name."""
    if name not in READERS:
        hint = nearest_name(name, READERS)
        raise ConfigError(f"benchmark.name: unknown {name!r}{hint}; known: {', '.join(READERS)}")
    return READERS[name]


def read_configured_benchmark(benchmark: BenchmarkConfig) -> Catalogue:
    """The images of the benchmark in a config. Raises as `read_benchmark` does."""
    return read_benchmark(
        benchmark.name, benchmark.root, benchmark.masks, benchmark.metadata, agreement=benchmark.agreement
    )


def read_benchmark(
    name: str,
    root: Path,
    masks: Path | None = None,
    metadata: Path | None = None,
    *,
    agreement: float = USUAL_AGREEMENT,
) -> Catalogue:
    """The images of benchmark `name` under `root`, with true masks, groups and parts where these are given.

    masks: folder of `<domain>/<class>/<stem>.png`, one mask per image. metadata: a CSV file, see metadata.py.
    agreement: of the embedded benchmark. Raises ConfigError for an unknown name and DataError, in one line with the
    remedy, for missing or unusable files.
    """
    reader = partial(_read_embedded, agreement=agreement) if name == "embedded" else find_reader(name)
    with read_errors(root):
        catalogue = reader(root)
        catalogue = catalogue if metadata is None else attach_metadata(catalogue, metadata)
        check_labels(catalogue)
        check_classes(catalogue)
        return catalogue if masks is None else attach_masks(catalogue, masks)
