"""What a benchmark holds, as records, and the reader of `<domain>/<class>/<image>` folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from align_dist.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})


@dataclass(frozen=True)
class Sample:
    """One picture of one class. `sequence`: the burst it belongs to, never cut by a split."""

    path: Path
    domain: str
    label: str
    mask: Path | None = None
    sequence: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """Domains and classes sorted, samples ordered by (domain, class, path).

    missing: pictures that an annotation file lists and the disk does not hold (left out).
    """

    benchmark: str
    root: Path
    domains: tuple[str, ...]
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    missing: int = 0


def make_catalogue(benchmark: str, root: Path, samples: Iterable[Sample], missing: int = 0) -> Catalogue:
    """Sorts the samples and names their domains and classes."""
    ordered = tuple(sorted(samples, key=lambda sample: (sample.domain, sample.label, str(sample.path))))
    domains = tuple(sorted({sample.domain for sample in ordered}))
    classes = tuple(sorted({sample.label for sample in ordered}))
    return Catalogue(benchmark, root, domains, classes, ordered, missing)


def relative(path: Path, root: Path) -> str:
    """A file's name in a manifest: its path within the benchmark's root, or all of it where it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def shown(name: str) -> str:
    """A name as a message can hold it: one line, and bytes that are no UTF-8 in escapes."""
    printable = (sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in name)
    return "".join(printable)


def read_folders(benchmark: str, root: Path, domains: Sequence[str] | None = None) -> Catalogue:
    """Reads `<root>/<domain>/<class>/<image>`; hidden files and other suffixes are left out.

    domains: the folders to read; None reads all. Raises DataError for a missing folder, a domain
    without class folders and a class folder without images.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected <domain>/<class>/<image> in it")
    names = _subfolders(root) if domains is None else list(domains)
    if not names:
        raise DataError(f"{root}: no domain folders; expected <domain>/<class>/<image> in it")
    samples: list[Sample] = []
    for domain in names:
        samples.extend(_read_domain(root / domain))
    return make_catalogue(benchmark, root, samples)


def attach_masks(catalogue: Catalogue, masks: Path) -> Catalogue:
    """The catalogue with `<masks>/<domain>/<class>/<stem>.png` beside every image, or DataError."""
    samples = [
        replace(sample, mask=masks / sample.domain / sample.label / f"{sample.path.stem}.png")
        for sample in catalogue.samples
    ]
    absent = [sample for sample in samples if sample.mask is None or not sample.mask.is_file()]
    if absent:
        first = absent[0]
        raise DataError(
            f"{first.path.name}: no mask {first.mask} ({len(absent):,} of {len(samples):,} images lack one); "
            f"add the masks or leave the benchmark's masks folder unset"
        )
    return replace(catalogue, samples=tuple(samples))


def check_classes(catalogue: Catalogue) -> None:
    """Raises DataError for a class that a single one of several domains holds: it cannot be generalised."""
    if len(catalogue.domains) < 2:
        return
    pairs = {(sample.label, sample.domain) for sample in catalogue.samples}
    for label in catalogue.classes:
        holders = [domain for domain in catalogue.domains if (label, domain) in pairs]
        if len(holders) == 1:
            raise DataError(
                f"{catalogue.root}: class '{label}' is in domain '{holders[0]}' only; a class needs two "
                f"domains: rename the folder if misspelt, or move it out of {catalogue.root / holders[0]}"
            )


def _subfolders(folder: Path) -> list[str]:
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry.name for entry in entries if entry.is_dir())


def _read_domain(folder: Path) -> list[Sample]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected <class>/<image> in it")
    labels = _subfolders(folder)
    if not labels:
        raise DataError(f"{folder}: a domain without class folders; expected <class>/<image> in it")
    samples: list[Sample] = []
    for label in labels:
        images = [
            entry
            for entry in (folder / label).iterdir()
            if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
        ]
        if not images:
            raise DataError(f"{folder / label}: no images in this class folder; add some or remove it")
        samples.extend(Sample(path, folder.name, label) for path in images)
    return samples
