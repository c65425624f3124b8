"""Comparison of a beton with the config and with the benchmark's folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from align_dist.config import BenchmarkConfig
from align_dist.data.benchmarks import read_configured_benchmark
from align_dist.data.beton import digests_with_masks, verify_beton
from align_dist.data.catalogue import Catalogue, Sample, attach_masks, make_catalogue, printable, relative_name
from align_dist.data.folders import read_errors
from align_dist.data.hashing import NO_STAMP, Stamp, digests_of, stamp_of
from align_dist.data.manifest import Manifest
from align_dist.errors import DataError

# Path, domain and class of a sample.
Key = tuple[str, str, str]


def checked_manifest(benchmark: BenchmarkConfig, quick: bool = True, compare: bool = True) -> Manifest:
    """The manifest of a benchmark's intact beton. Raises DataError as `verify_beton` does, and for a beton that differs
    from the config.

    compare: whether to compare the benchmark's folders as well; of several ranks only one does.
    """
    manifest = verify_beton(benchmark.beton, quick)
    differences = storage_differences(benchmark, manifest)
    differences += tree_differences(benchmark, manifest) if compare else []
    if differences:
        raise DataError(
            f"{benchmark.beton}: differs from the config: {'; '.join(differences)}; to keep both, set another folder "
            "benchmark.betons=FOLDER, or replace the beton with `align-dist data prepare CONFIG --force`"
        )
    if benchmark.fingerprint not in (None, manifest.fingerprint):
        raise DataError(
            f"{benchmark.beton}: holds other images or masks ({manifest.fingerprint}) than the run's config "
            f"(benchmark.fingerprint={benchmark.fingerprint}); prepare the former images again, or start a new "
            "run with benchmark.fingerprint=null"
        )
    return manifest


def storage_differences(benchmark: BenchmarkConfig, manifest: Manifest) -> list[str]:
    """Differences of a beton from the config, without looking at the folders, one line each."""
    stored = manifest.image_field
    pairs = [
        ("name", manifest.benchmark, benchmark.name),
        ("storage", stored.mode, benchmark.storage),
        ("max_side", stored.max_side, benchmark.max_side),
        ("agreement", manifest.agreement, benchmark.agreement),
    ]
    if stored.mode == "jpg":
        pairs.append(("quality", stored.quality, benchmark.quality))
    if manifest.has_masks:
        pairs.append(("mask_values", manifest.mask_values, benchmark.mask_values))
    differences = [
        f"benchmark.{key} {actual}, expected {expected}" for key, actual, expected in pairs if actual != expected
    ]
    if manifest.skipped and benchmark.on_unreadable == "fail":
        differences.append(
            _count_text(manifest.skipped, "left out as unreadable, expected benchmark.on_unreadable fail")
        )
    if benchmark.masks is not None and not manifest.has_masks:
        differences.append(f"no masks, expected benchmark.masks {benchmark.masks}")
    if benchmark.metadata is not None and not (manifest.group_names or manifest.parts):
        differences.append(f"neither groups nor parts, expected benchmark.metadata {benchmark.metadata}")
    return differences


def tree_differences(benchmark: BenchmarkConfig, manifest: Manifest) -> list[str]:
    """Differences of a beton from the images and masks in the benchmark's folders, one line each.

    A missing or empty root or mask folder is no difference, because betons are used without their source files. Raises
    DataError for folders that the benchmark's reader refuses.
    """
    if _has_content(benchmark.root):
        catalogue = read_configured_benchmark(benchmark)
        changes = _picture_differences(catalogue, manifest)
        differences = [f"under {benchmark.root} {', '.join(changes)}"] if changes else []
    elif manifest.has_masks and benchmark.masks is not None and _has_content(benchmark.masks):
        with read_errors(benchmark.masks):
            catalogue, differences = attach_masks(_catalogue_of(manifest, benchmark.root), benchmark.masks), []
    else:
        return []
    return differences + _mask_differences(catalogue, manifest)


def with_current_times(benchmark: BenchmarkConfig, manifest: Manifest) -> Manifest:
    """The manifest of a compared beton with current file times, so that no file is hashed again."""
    if not _has_content(benchmark.root):
        return manifest
    catalogue = read_configured_benchmark(benchmark)
    samples = _by_key(catalogue)
    ordered = [samples[key] for key in _keys(manifest)]
    masks = tuple(stamp_of(sample.mask) for sample in ordered if sample.mask is not None)
    return replace(
        manifest,
        stamps=tuple(stamp_of(sample.path) for sample in ordered),
        mask_stamps=masks if len(masks) == len(manifest) and manifest.has_masks else manifest.mask_stamps,
    )


def _picture_differences(catalogue: Catalogue, manifest: Manifest) -> list[str]:
    current, recorded = _by_key(catalogue), list(_keys(manifest))
    current_labels, recorded_labels = _labels_by_path(current), _labels_by_path(recorded)
    differences = [
        _count_text(sorted(current_labels.keys() - recorded_labels.keys() - set(manifest.skipped)), "added"),
        _count_text(sorted(recorded_labels.keys() - current_labels.keys()), "gone"),
        _count_text(
            [path for path, labels in recorded_labels.items() if current_labels.get(path, labels) != labels],
            "relabelled",
        ),
    ]
    common = [index for index, key in enumerate(recorded) if key in current]
    replaced_places = _changed_places(
        [current[recorded[index]].path for index in common],
        [manifest.stamps[index] for index in common],
        [manifest.hashes[index] for index in common],
    )
    differences.append(
        _count_text(dict.fromkeys(manifest.paths[common[place]] for place in replaced_places), "replaced")
    )
    resequenced = [index for index in common if current[recorded[index]].sequence != manifest.sequences[index]]
    differences.append(_count_text(dict.fromkeys(manifest.paths[index] for index in resequenced), "of another burst"))
    regrouped = [index for index in common if current[recorded[index]].group != manifest.group_of(index)]
    differences.append(_count_text((manifest.paths[index] for index in regrouped), "of another group"))
    repartitioned = [index for index in common if current[recorded[index]].part != manifest.part_of(index)]
    differences.append(_count_text((manifest.paths[index] for index in repartitioned), "of another part"))
    skipped = dict(zip(manifest.skipped, manifest.skipped_hashes, strict=True))
    skipped_samples = [(key[0], sample) for key, sample in current.items() if key[0] in skipped]
    digests = digests_with_masks([sample for _, sample in skipped_samples])
    # An image's digest comes before its mask's, so that an image without its mask counts as unchanged.
    changed_skips = [
        path for (path, _), digest in zip(skipped_samples, digests, strict=True) if not skipped[path].startswith(digest)
    ]
    differences.append(_count_text(changed_skips, "left out as unreadable and changed since"))
    return [text for text in differences if text]


def _mask_differences(catalogue: Catalogue, manifest: Manifest) -> list[str]:
    current = _by_key(catalogue)
    masks = [(index, current[key].mask) for index, key in enumerate(_keys(manifest)) if key in current]
    if manifest.has_masks and masks and all(mask is None for _, mask in masks):
        return ["masks, expected none (benchmark.masks is unset)"]
    common = [(index, mask) for index, mask in masks if mask is not None and manifest.has_masks]
    changed = _changed_places(
        [mask for _, mask in common],
        [manifest.mask_stamps[index] for index, _ in common],
        [manifest.mask_hashes[index] for index, _ in common],
    )
    difference = _count_text([str(common[place][1]) for place in changed], "other masks")
    return [difference] if difference else []


def _changed_places(paths: Sequence[Path], stamps: Sequence[Stamp], digests: Sequence[str]) -> list[int]:
    """Positions of files whose content has changed, by size, and by hash where only the time differs."""
    current_stamps = [stamp_of(path) for path in paths]
    candidates = [place for place in range(len(paths)) if current_stamps[place] != stamps[place]]
    same_size = [
        place
        for place in candidates
        if current_stamps[place][0] == stamps[place][0] and current_stamps[place] != NO_STAMP
    ]
    unchanged = {
        place
        for place, digest in zip(same_size, digests_of([paths[place] for place in same_size]), strict=True)
        if digest == digests[place]
    }
    return [place for place in candidates if place not in unchanged]


def _by_key(catalogue: Catalogue) -> dict[Key, Sample]:
    root = catalogue.root
    return {(relative_name(sample.path, root), sample.domain, sample.label): sample for sample in catalogue.samples}


def _keys(manifest: Manifest) -> Iterator[Key]:
    for path, domain, label in zip(manifest.paths, manifest.domain_indices, manifest.labels, strict=True):
        yield path, manifest.domains[domain], manifest.classes[label]


def _labels_by_path(keys: Iterable[Key]) -> dict[str, set[tuple[str, str]]]:
    labels: dict[str, set[tuple[str, str]]] = {}
    for path, domain, label in keys:
        labels.setdefault(path, set()).add((domain, label))
    return labels


def _catalogue_of(manifest: Manifest, root: Path) -> Catalogue:
    samples = (Sample(root / path, domain, label) for path, domain, label in _keys(manifest))
    return make_catalogue(manifest.benchmark, root, samples)


def _count_text(names: Iterable[str], event: str) -> str:
    listed = list(names)
    return f"{len(listed):,} {event} (first {printable(listed[0])})" if listed else ""


def _has_content(folder: Path) -> bool:
    """Return whether a folder exists and is not empty; True for an unreadable folder, which the reader then reports."""
    with suppress(PermissionError):
        return folder.is_dir() and any(folder.iterdir())
    return True
