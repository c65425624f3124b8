"""`align-dist data prepare`: write the `.beton` of a benchmark."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from align_dist.config import BenchmarkConfig
from align_dist.data.benchmarks import count_warnings, read_configured_benchmark
from align_dist.data.beton import is_written, prepare_beton, verify_beton
from align_dist.data.checks import benchmark_warnings, check_classes_differ
from align_dist.data.comparison import checked_manifest, with_current_times
from align_dist.data.manifest import Manifest, manifest_path, write_manifest
from align_dist.errors import DataError


def prepare(benchmark: BenchmarkConfig, force: bool = False) -> Manifest:
    """Write the benchmark's `.beton`, unless an intact beton of the same images exists, and print a summary.

    Raises DataError for an intact beton of other images, and the errors of reading the folders.
    """
    if not force and is_written(benchmark.beton):
        try:
            verify_beton(benchmark.beton)
        except DataError as error:
            print(f"{error}; writing it again", file=sys.stderr)
        else:
            manifest = _refresh_times(benchmark, checked_manifest(benchmark))
            _print_notes(manifest)
            _warn([*manifest.passed_over, *benchmark_warnings(manifest)])
            print(f"{benchmark.beton}: exists already, intact, {len(manifest):,} images")
            return manifest
    catalogue = read_configured_benchmark(benchmark)
    check_classes_differ(catalogue.classes)
    _warn([*count_warnings(catalogue), *catalogue.passed_over])
    manifest = prepare_beton(
        catalogue,
        benchmark.beton,
        max_side=benchmark.max_side,
        mode=benchmark.storage,
        quality=benchmark.quality,
        on_unreadable=benchmark.on_unreadable,
        mask_values=benchmark.mask_values,
    )
    _print_notes(manifest)
    # Warnings that only appear after reading the images.
    _warn([*manifest.passed_over[len(catalogue.passed_over) :], *benchmark_warnings(manifest)])
    copies = len(manifest) - len(set(manifest.bundles))
    domains = ", ".join(f"{name} {manifest.domain_indices.count(i):,}" for i, name in enumerate(manifest.domains))
    groups = ", ".join(f"{name} {manifest.group_indices.count(i):,}" for i, name in enumerate(manifest.group_names))
    details = "; ".join(filter(None, (f"{copies} copies or near-duplicates", domains, groups)))
    print(f"{benchmark.beton}: {len(manifest):,} images, {details}")
    return manifest


def _print_notes(manifest: Manifest) -> None:
    for line in manifest.notes:
        print(line, file=sys.stderr)


def _warn(lines: Iterable[object]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _refresh_times(benchmark: BenchmarkConfig, manifest: Manifest) -> Manifest:
    """The manifest with current file times, saved so that no run hashes touched or copied files again."""
    refreshed = with_current_times(benchmark, manifest)
    if refreshed != manifest:
        write_manifest(refreshed, manifest_path(benchmark.beton))
    return refreshed
