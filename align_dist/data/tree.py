"""Whether a beton holds what a benchmark's description asks for, and what lies in the benchmark's folders now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from align_dist.config import BenchmarkConfig
from align_dist.data.benchmarks import read_described
from align_dist.data.beton import digests_with_masks, verify_beton
from align_dist.data.catalogue import Catalogue, Sample, attach_masks, make_catalogue, relative, shown
from align_dist.data.contents import NO_STAMP, Stamp, digests_of, stamp_of
from align_dist.data.folders import reading
from align_dist.data.manifest import Manifest
from align_dist.errors import DataError

# A sample by its path, its domain and its class.
Key = tuple[str, str, str]


def beton_of(benchmark: BenchmarkConfig, quick: bool = True, compare: bool = True) -> Manifest:
    """The manifest of a benchmark's intact beton. Raises DataError as `verify_beton` does, and for a beton that holds
    something else than the description asks for.

    compare: whether the whole listing of the benchmark's folders is compared as well; of several ranks one does that.
    """
    manifest = verify_beton(benchmark.beton, quick)
    told = storage_differences(benchmark, manifest)
    told += tree_differences(benchmark, manifest) if compare else []
    if told:
        raise DataError(
            f"{benchmark.beton}: not what the config asks for: {'; '.join(told)}; keep both with a folder of its own, "
            "benchmark.betons=FOLDER, or replace the beton with `align-dist data prepare CONFIG --force`"
        )
    if benchmark.pictures not in (None, manifest.pictures):
        raise DataError(
            f"{benchmark.beton}: holds other pictures or masks ({manifest.pictures}) than the run is described with "
            f"(benchmark.pictures={benchmark.pictures}); prepare those again, or begin a run on these with "
            "benchmark.pictures=null"
        )
    return manifest


def storage_differences(benchmark: BenchmarkConfig, manifest: Manifest) -> list[str]:
    """What a beton has otherwise than the description asks for, whatever lies in the folders."""
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
    told = [f"benchmark.{key} {was}, asked for {asked}" for key, was, asked in pairs if was != asked]
    if manifest.skipped and benchmark.on_unreadable == "fail":
        told.append(_counted(manifest.skipped, "left out as unreadable, asked for benchmark.on_unreadable fail"))
    if benchmark.masks is not None and not manifest.has_masks:
        told.append(f"no masks, asked for benchmark.masks {benchmark.masks}")
    if benchmark.metadata is not None and not (manifest.group_names or manifest.parts):
        told.append(f"neither groups nor parts, asked for benchmark.metadata {benchmark.metadata}")
    return told


def tree_differences(benchmark: BenchmarkConfig, manifest: Manifest) -> list[str]:
    """How pictures and masks that lie in the benchmark's folders differ from those that a beton was made of.

    A root that is not there, or is empty, says nothing: betons are used without their pictures. The same holds for
    masks. Raises DataError for folders that the benchmark's reader refuses.
    """
    if _holds_something(benchmark.root):
        catalogue = read_described(benchmark)
        found = _picture_differences(catalogue, manifest)
        told = [f"under {benchmark.root} {', '.join(found)}"] if found else []
    elif manifest.has_masks and benchmark.masks is not None and _holds_something(benchmark.masks):
        with reading(benchmark.masks):
            catalogue, told = attach_masks(_catalogue_of(manifest, benchmark.root), benchmark.masks), []
    else:
        return []
    return told + _mask_differences(catalogue, manifest)


def with_times_now(benchmark: BenchmarkConfig, manifest: Manifest) -> Manifest:
    """The manifest of a beton that was compared, with the times that its files have now: none is hashed again."""
    if not _holds_something(benchmark.root):
        return manifest
    catalogue = read_described(benchmark)
    samples = _by_key(catalogue)
    found = [samples[key] for key in _keys(manifest)]
    masks = tuple(stamp_of(sample.mask) for sample in found if sample.mask is not None)
    return replace(
        manifest,
        stamps=tuple(stamp_of(sample.path) for sample in found),
        mask_stamps=masks if len(masks) == len(manifest) and manifest.has_masks else manifest.mask_stamps,
    )


def _picture_differences(catalogue: Catalogue, manifest: Manifest) -> list[str]:
    now, then = _by_key(catalogue), list(_keys(manifest))
    names_now, names_then = _labels_by_path(now), _labels_by_path(then)
    told = [
        _counted(sorted(names_now.keys() - names_then.keys() - set(manifest.skipped)), "added"),
        _counted(sorted(names_then.keys() - names_now.keys()), "gone"),
        _counted([path for path, labels in names_then.items() if names_now.get(path, labels) != labels], "relabelled"),
    ]
    both = [index for index, key in enumerate(then) if key in now]
    replaced = _changed(
        [now[then[index]].path for index in both],
        [manifest.stamps[index] for index in both],
        [manifest.hashes[index] for index in both],
    )
    told.append(_counted(dict.fromkeys(manifest.paths[both[place]] for place in replaced), "replaced"))
    moved = [index for index in both if now[then[index]].sequence != manifest.sequences[index]]
    told.append(_counted(dict.fromkeys(manifest.paths[index] for index in moved), "of another burst"))
    regrouped = [index for index in both if now[then[index]].group != manifest.group_of(index)]
    told.append(_counted((manifest.paths[index] for index in regrouped), "of another group"))
    repartitioned = [index for index in both if now[then[index]].part != manifest.part_of(index)]
    told.append(_counted((manifest.paths[index] for index in repartitioned), "of another part"))
    skipped = dict(zip(manifest.skipped, manifest.skipped_hashes, strict=True))
    there = [(key[0], sample) for key, sample in now.items() if key[0] in skipped]
    digests = digests_with_masks([sample for _, sample in there])
    # A picture's digest comes first: one that is no longer looked at with its mask is the same.
    mended = [path for (path, _), digest in zip(there, digests, strict=True) if not skipped[path].startswith(digest)]
    told.append(_counted(mended, "left out as unreadable and changed since"))
    return [text for text in told if text]


def _mask_differences(catalogue: Catalogue, manifest: Manifest) -> list[str]:
    now = _by_key(catalogue)
    masks = [(index, now[key].mask) for index, key in enumerate(_keys(manifest)) if key in now]
    there = [(index, mask) for index, mask in masks if mask is not None and manifest.has_masks]
    changed = _changed(
        [mask for _, mask in there],
        [manifest.mask_stamps[index] for index, _ in there],
        [manifest.mask_hashes[index] for index, _ in there],
    )
    told = _counted([str(there[place][1]) for place in changed], "other masks")
    return [told] if told else []


def _changed(paths: Sequence[Path], stamps: Sequence[Stamp], digests: Sequence[str]) -> list[int]:
    """Places of files that are no longer what they were: told by their sizes, and by their hashes where only the time
    differs.
    """
    found = [stamp_of(path) for path in paths]
    differing = [place for place in range(len(paths)) if found[place] != stamps[place]]
    touched = [place for place in differing if found[place][0] == stamps[place][0] and found[place] != NO_STAMP]
    same = {
        place
        for place, digest in zip(touched, digests_of([paths[place] for place in touched]), strict=True)
        if digest == digests[place]
    }
    return [place for place in differing if place not in same]


def _by_key(catalogue: Catalogue) -> dict[Key, Sample]:
    root = catalogue.root
    return {(relative(sample.path, root), sample.domain, sample.label): sample for sample in catalogue.samples}


def _keys(manifest: Manifest) -> Iterator[Key]:
    for path, domain, label in zip(manifest.paths, manifest.domain_indices, manifest.labels, strict=True):
        yield path, manifest.domains[domain], manifest.classes[label]


def _labels_by_path(keys: Iterable[Key]) -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for path, domain, label in keys:
        found.setdefault(path, set()).add((domain, label))
    return found


def _catalogue_of(manifest: Manifest, root: Path) -> Catalogue:
    samples = (Sample(root / path, domain, label) for path, domain, label in _keys(manifest))
    return make_catalogue(manifest.benchmark, root, samples)


def _counted(names: Iterable[str], what: str) -> str:
    found = list(names)
    return f"{len(found):,} {what} (first {shown(found[0])})" if found else ""


def _holds_something(folder: Path) -> bool:
    """Whether a folder is there and not empty; of one that may not be read the benchmark's reader says so."""
    with suppress(PermissionError):
        return folder.is_dir() and any(folder.iterdir())
    return True
