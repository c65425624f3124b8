"""The catalogue of a benchmark's samples."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from align_dist.config.sections import USUAL_AGREEMENT
from align_dist.errors import DataError


@dataclass(frozen=True)
class Sample:
    """One image of one class. sequence: the image's burst, which no split separates.

    group: class and spurious attribute, such as `landbird on water`. part: `train`, `validation` or `test` in the
    benchmark's own split. Both are None for a benchmark without groups or its own split.
    """

    path: Path
    domain: str
    label: str
    mask: Path | None = None
    sequence: str | None = None
    group: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class PassedOver:
    """Number of files that are not samples for one reason, and the name of the first such file."""

    reason: str
    count: int
    first: str

    def __str__(self) -> str:
        """The count, the reason and the first file in one line."""
        return f"{self.count:,} passed over: {self.reason} (first {printable(self.first)})"


@dataclass(frozen=True)
class Catalogue:
    """Samples ordered by (domain, class, path), with sorted domains and classes. passed_over: one entry per reason.

    agreement: for the embedded benchmark, the share of `biased` images on the background of their class.
    """

    benchmark: str
    root: Path
    domains: tuple[str, ...]
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    passed_over: tuple[PassedOver, ...] = ()
    agreement: float = USUAL_AGREEMENT

    @property
    def groups(self) -> tuple[str, ...]:
        """Sorted names of the groups; empty for a benchmark without groups."""
        return tuple(sorted({sample.group for sample in self.samples if sample.group is not None}))


# A file that is not a sample, and the reason.
LeftOut = tuple[Path, str]


def make_catalogue(
    benchmark: str, root: Path, samples: Iterable[Sample], left_out: Iterable[LeftOut] = ()
) -> Catalogue:
    """Build a catalogue: sort the samples, list domains and classes, and count the files left out by reason."""
    ordered = tuple(sorted(samples, key=lambda sample: (sample.domain, sample.label, str(sample.path))))
    domains = tuple(sorted({sample.domain for sample in ordered}))
    classes = tuple(sorted({sample.label for sample in ordered}))
    return Catalogue(benchmark, root, domains, classes, ordered, count_by_reason(root, left_out))


def count_by_reason(root: Path, left_out: Iterable[LeftOut]) -> tuple[PassedOver, ...]:
    """One entry per reason, sorted by reason, with the first path in sorted order."""
    paths_by_reason: dict[str, list[str]] = {}
    for path, reason in left_out:
        paths_by_reason.setdefault(reason, []).append(relative_name(path, root))
    return tuple(PassedOver(reason, len(paths), min(paths)) for reason, paths in sorted(paths_by_reason.items()))


def relative_name(path: Path, root: Path) -> str:
    """A file's name in a manifest: the path relative to the benchmark's root, or the full path outside the root."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def printable(name: str) -> str:
    """A name printable in one line, with control characters and invalid UTF-8 escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in name)


def mask_paths(samples: Sequence[Sample], folder: Path) -> list[Path]:
    """`<folder>/<domain>/<class>/<stem>.png` for each sample. Raises DataError where two samples share a path."""
    sources: dict[Path, Path] = {}
    for sample in samples:
        mask_path = folder / sample.domain / sample.label / f"{sample.path.stem}.png"
        if mask_path in sources:
            raise DataError(
                f"{sample.path}: would share the mask {mask_path} with {sources[mask_path].name}; rename one of the two"
            )
        sources[mask_path] = sample.path
    return list(sources)


def attach_masks(catalogue: Catalogue, masks: Path) -> Catalogue:
    """The catalogue with the mask of every image, at `mask_paths`. Raises DataError for a missing mask, and for one of
    two images.
    """
    paths = mask_paths(catalogue.samples, masks)
    samples = [replace(sample, mask=path) for sample, path in zip(catalogue.samples, paths, strict=True)]
    absent = [sample for sample in samples if sample.mask is None or not sample.mask.is_file()]
    if absent:
        first = absent[0]
        raise DataError(
            f"{first.path.name}: no mask {first.mask} ({len(absent):,} of {len(samples):,} images lack one); "
            f"add the masks or leave the benchmark's masks folder unset"
        )
    return replace(catalogue, samples=tuple(samples))


def check_classes(catalogue: Catalogue) -> None:
    """Raise DataError for a class in only one of several domains, which cannot generalise."""
    if len(catalogue.domains) < 2:
        return
    pairs = {(sample.label, sample.domain) for sample in catalogue.samples}
    for label in catalogue.classes:
        holders = [domain for domain in catalogue.domains if (label, domain) in pairs]
        if len(holders) == 1:
            raise DataError(
                f"{catalogue.root}: class '{label}' is only in domain '{holders[0]}'; a class needs two "
                f"domains: rename the folder if misspelt, or move it out of {catalogue.root / holders[0]}"
            )


def check_labels(catalogue: Catalogue) -> None:
    """Raise DataError for a name of a domain, class or group that is not printable, or equals another in Unicode.

    Names appear in run folders, TensorBoard tags, YAML and tables, where invalid UTF-8 and control characters are not
    allowed, and where the composed and decomposed Unicode forms of one name look the same.
    """
    for kind, names in (("domain", catalogue.domains), ("class", catalogue.classes), ("group", catalogue.groups)):
        forms: dict[str, str] = {}
        for name in names:
            if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
                raise DataError(
                    f"{catalogue.root}: {kind} '{printable(name)}' has a name that is not valid UTF-8 text; rename it"
                )
            other = forms.setdefault(unicodedata.normalize("NFC", name), name)
            if other != name:
                raise DataError(
                    f"{catalogue.root}: {kind} '{name}' exists twice, with composed and with decomposed letters "
                    f"({other!a} and {name!a}); rename one of the two to the other"
                )
