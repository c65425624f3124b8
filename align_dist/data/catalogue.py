"""What a benchmark holds, as records."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from align_dist.config.sections import USUAL_AGREEMENT
from align_dist.errors import DataError


@dataclass(frozen=True)
class Sample:
    """One picture of one class. sequence: the burst it belongs to, never cut by a split.

    group: its class and spurious attribute, such as `landbird on water`, and part: `train`, `validation` or `test`,
    where the benchmark brings groups and parts of its own.
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
    """How many files of a benchmark's folders are no samples for one reason, and the first one's name."""

    reason: str
    count: int
    first: str

    def __str__(self) -> str:
        """A line."""
        return f"{self.count:,} passed over: {self.reason} (first {shown(self.first)})"


@dataclass(frozen=True)
class Catalogue:
    """Domains and classes sorted, samples ordered by (domain, class, path). passed_over: a line for each reason.

    agreement: of the embedded benchmark, the share of `biased` on the background of its class.
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
        """The groups' names, sorted; none where the benchmark has none."""
        return tuple(sorted({sample.group for sample in self.samples if sample.group is not None}))


# A file that is no sample, and why.
LeftOut = tuple[Path, str]


def make_catalogue(
    benchmark: str, root: Path, samples: Iterable[Sample], left_out: Iterable[LeftOut] = ()
) -> Catalogue:
    """Sorts the samples, names their domains and classes, and counts what was left out by reason."""
    ordered = tuple(sorted(samples, key=lambda sample: (sample.domain, sample.label, str(sample.path))))
    domains = tuple(sorted({sample.domain for sample in ordered}))
    classes = tuple(sorted({sample.label for sample in ordered}))
    return Catalogue(benchmark, root, domains, classes, ordered, count_by_reason(root, left_out))


def count_by_reason(root: Path, left_out: Iterable[LeftOut]) -> tuple[PassedOver, ...]:
    """A line for each reason, in the reasons' order, with the first path in the order of paths."""
    found: dict[str, list[str]] = {}
    for path, reason in left_out:
        found.setdefault(reason, []).append(relative(path, root))
    return tuple(PassedOver(reason, len(paths), min(paths)) for reason, paths in sorted(found.items()))


def relative(path: Path, root: Path) -> str:
    """A file's name in a manifest: its path within the benchmark's root, or all of it where it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def shown(name: str) -> str:
    """A name as a message can hold it: one line, and bytes that are no UTF-8 in escapes."""
    printable = (sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in name)
    return "".join(printable)


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


def check_labels(catalogue: Catalogue) -> None:
    """Raises DataError for a domain, class or group whose name cannot be written down, or is another's in other bytes.

    Names stand in run folders, TensorBoard tags, YAML and tables: bytes that are no UTF-8 and control characters have
    no place there, and two spellings of one name (Unicode's composed and decomposed forms) look the same everywhere.
    """
    for kind, names in (("domain", catalogue.domains), ("class", catalogue.classes), ("group", catalogue.groups)):
        forms: dict[str, str] = {}
        for name in names:
            if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
                raise DataError(
                    f"{catalogue.root}: {kind} '{shown(name)}' has bytes in its name that are no UTF-8 text; rename it"
                )
            other = forms.setdefault(unicodedata.normalize("NFC", name), name)
            if other != name:
                raise DataError(
                    f"{catalogue.root}: {kind} '{name}' is there twice, with composed and with decomposed letters "
                    f"({other!a} and {name!a}); rename one of them to the other"
                )
