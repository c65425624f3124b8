"""Image counts of the published benchmarks, to detect incomplete or altered copies."""

from __future__ import annotations

from collections import Counter

from align_dist.data.catalogue import Catalogue

Row = tuple[int, ...]

# Counted from DomainBed's misc/vlcs_files.txt.
VLCS_CLASSES = ("bird", "car", "chair", "dog", "person")
VLCS_COUNTS: dict[str, Row] = {
    "Caltech101": (237, 123, 118, 67, 870),
    "LabelMe": (80, 1209, 88, 42, 1237),
    "SUN09": (20, 932, 1036, 30, 1264),
    "VOC2007": (330, 699, 428, 420, 1499),
}
# The original 24,788 images, counted from muse1998/Source-Free-Domain-Generalization image_list/Terra.
TERRA_CLASSES = (
    "bird", "bobcat", "cat", "coyote", "dog", "empty", "opossum", "rabbit", "raccoon", "squirrel",
)  # fmt: skip
TERRA_COUNTS: dict[str, Row] = {
    "location_100": (54, 57, 227, 12, 384, 181, 989, 92, 2552, 331),
    "location_38": (3, 12, 2295, 48, 360, 194, 4500, 1396, 198, 761),
    "location_43": (72, 1104, 3, 834, 195, 562, 777, 73, 390, 10),
    "location_46": (90, 999, 21, 873, 30, 726, 1339, 566, 1464, 14),
}
# The re-hosted 24,330 images. Only the sum has a public source, not the numbers per location.
TERRA_REHOSTED = {"location_100": 4741, "location_38": 9736, "location_43": 3970, "location_46": 5883}
# From scikit-learn's 1,797 digits; see align_dist/data/embedded.py.
EMBEDDED_TOTALS = {"biased": 1200, "novel": 597, "reversed": 597, "shuffled": 597}
# Li et al., ICCV 2017.
PACS_TOTALS = {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929}
# Sagawa et al., ICLR 2020: landbirds on land and on water, waterbirds on land and on water.
WATERBIRDS_COUNTS: dict[str, Row] = {
    "train": (3498, 184, 56, 1057),
    "validation": (467, 466, 133, 133),
    "test": (2255, 2255, 642, 642),
}


def count_warnings(catalogue: Catalogue) -> tuple[str, ...]:
    """One line per difference from the published copy; empty for benchmarks without published counts."""
    lines: list[str] = []
    if catalogue.benchmark == "vlcs":
        lines += _class_differences(catalogue, "VLCS", VLCS_CLASSES, VLCS_COUNTS)
    elif catalogue.benchmark == "terra_incognita":
        totals = Counter(sample.domain for sample in catalogue.samples)
        original = {name: row for name, row in TERRA_COUNTS.items() if totals[name] != TERRA_REHOSTED[name]}
        lines += _class_differences(catalogue, "Terra Incognita", TERRA_CLASSES, original)
    elif catalogue.benchmark == "pacs":
        lines += _total_differences(catalogue, "PACS", "the published PACS has", PACS_TOTALS)
    elif catalogue.benchmark == "embedded":
        lines += _total_differences(catalogue, "embedded", "it was made with", EMBEDDED_TOTALS)
    elif catalogue.benchmark == "waterbirds":
        lines += _part_differences(catalogue, "Waterbirds", WATERBIRDS_COUNTS)
    return tuple(lines)


def _part_differences(catalogue: Catalogue, title: str, expected: dict[str, Row]) -> list[str]:
    counts = Counter((sample.part, sample.group) for sample in catalogue.samples)
    return [
        f"{title}/{part} {group}: {counts[part, group]:,} images, WILDS' copy has {count:,}"
        for part, row in expected.items()
        for group, count in zip(catalogue.groups, row, strict=False)
        if counts[part, group] != count
    ]


def _total_differences(catalogue: Catalogue, title: str, reference: str, expected: dict[str, int]) -> list[str]:
    totals = Counter(sample.domain for sample in catalogue.samples)
    return [
        f"{title}/{domain}: {totals[domain]:,} images, {reference} {count:,}"
        for domain, count in expected.items()
        if totals[domain] != count
    ]


def _class_differences(
    catalogue: Catalogue, title: str, classes: tuple[str, ...], expected: dict[str, Row]
) -> list[str]:
    counts = Counter((sample.domain, sample.label) for sample in catalogue.samples)
    return [
        f"{title}/{domain} {label}: {counts[domain, label]:,} images, DomainBed's copy has {count:,}"
        for domain, row in expected.items()
        for label, count in zip(classes, row, strict=True)
        if counts[domain, label] != count
    ] + [
        f"{title}/{domain} {label}: {count:,} images, DomainBed's copy has no such class"
        for (domain, label), count in sorted(counts.items())
        if domain in expected and label not in classes
    ]
