"""The manifest: a JSON file beside a beton with the class, domain and source of every sample."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from align_dist.config import RunConfig
from align_dist.config.sections import USUAL_AGREEMENT
from align_dist.data.catalogue import PassedOver
from align_dist.data.hashing import Stamp, stamp_of
from align_dist.errors import DataError, StorageError, UserError
from align_dist.files import write_text

VERSION = 2
# Fields that may differ between two betons of the same images and masks.
NOT_FINGERPRINTED = (
    "beton_bytes", "beton_sha256", "skipped", "skipped_hashes", "stamps", "mask_stamps", "passed_over", "sequences",
    "notes",
)  # fmt: skip
# Fields with another name in the file, which digests and run ids depend on.
STORED_NAMES = {"bundles": "groups"}
# Later fields, written only for benchmarks that have them, so that older digests and run ids stay valid.
OPTIONAL_FIELDS = ("group_names", "group_indices", "parts", "agreement")
REMEDY = "make it again with `align-dist data prepare CONFIG --force`"


@dataclass(frozen=True)
class ImageField:
    """Storage of images. mode: 'jpg' or 'raw'. max_side: largest longer side in pixels. quality: of the JPEG."""

    mode: str
    max_side: int
    quality: int


@dataclass(frozen=True)
class Manifest:
    """A beton's samples as parallel tuples; a sample's id is its index.

    paths: source file, relative to the benchmark's root. hashes: SHA-256 of the source file. labels: index into
    classes. domain_indices: index into domains. bundles: smallest sample id among the sample's copies, near-duplicates
    and burst within its domain, which no split separates. skipped: unreadable source files. stamps: size and time of
    each source file. mask_hashes, mask_stamps: of each sample's mask, empty without masks. passed_over: files that are
    not samples. sequences: the benchmark's own burst of each sample, or None. mask_values: the setting
    (mask_values.py). notes: remarks on how images and masks were read, one line each. group_names: class and spurious
    attribute; group_indices: index into group_names; parts: `train`, `validation` or `test` in the benchmark's own
    split; empty for a benchmark without groups or its own split. agreement: see Catalogue.
    """

    version: int
    benchmark: str
    classes: tuple[str, ...]
    domains: tuple[str, ...]
    image_field: ImageField
    has_masks: bool
    beton_bytes: int
    beton_sha256: str
    paths: tuple[str, ...]
    hashes: tuple[str, ...]
    labels: tuple[int, ...]
    domain_indices: tuple[int, ...]
    bundles: tuple[int, ...]
    skipped: tuple[str, ...]
    skipped_hashes: tuple[str, ...] = ()
    stamps: tuple[Stamp, ...] = ()
    mask_hashes: tuple[str, ...] = ()
    mask_stamps: tuple[Stamp, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    mask_values: str | tuple[int, ...] = "auto"
    notes: tuple[str, ...] = ()
    sequences: tuple[str | None, ...] = ()
    group_names: tuple[str, ...] = ()
    group_indices: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()
    agreement: float = USUAL_AGREEMENT

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of images, masks and storage, sixteen hexadecimal digits: the same for the same bytes under the
        same names, whenever the beton was written.
        """
        return _digest({name: value for name, value in _content_of(self).items() if name not in NOT_FINGERPRINTED})[:16]

    @cached_property
    def masks(self) -> str:
        """Fingerprint of the masks and of how their values are read, eight hexadecimal digits; empty without masks."""
        return _digest({"hashes": self.mask_hashes, "values": self.mask_values})[:8] if self.has_masks else ""

    def group_of(self, sample: int) -> str | None:
        """Name of a sample's group; None for a benchmark without groups."""
        return self.group_names[self.group_indices[sample]] if self.group_indices else None

    def part_of(self, sample: int) -> str | None:
        """A sample's part in the benchmark's own split; None for a benchmark without its own split."""
        return self.parts[sample] if self.parts else None


def manifest_path(beton: Path) -> Path:
    """`<name>.beton.json` beside `<name>.beton`."""
    return beton.with_name(f"{beton.name}.json")


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest atomically. Raises StorageError."""
    content = _content_of(manifest)
    write_text(path, json.dumps({"digest": _digest(content), "manifest": content}))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. Raises DataError for a missing or damaged file or another version, StorageError without
    permission to read.
    """
    try:
        document = json.loads(path.read_bytes())
        content = document["manifest"]
        version = content["version"]
        intact = document["digest"] == _digest(content)
    except FileNotFoundError:
        raise DataError(f"{path}: no such manifest; {REMEDY}") from None
    except PermissionError as error:
        raise no_permission(path, error) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path}: the manifest is damaged; {REMEDY}") from None
    if version != VERSION:
        raise DataError(f"{path}: manifest version {version}, this program reads {VERSION}; {REMEDY}")
    if not intact:
        raise DataError(f"{path}: the manifest was changed after it was written; {REMEDY}")
    return _from_content(content)


def no_permission(path: Path, error: OSError) -> StorageError:
    """The StorageError for a beton or a manifest without permission to read."""
    return StorageError(f"{path}: cannot be read ({error.strerror}); give this user permission to read it")


def with_fingerprint(config: RunConfig) -> RunConfig:
    """The config with `benchmark.fingerprint` from the beton's manifest, unless `fingerprint` is set or the manifest is
    unreadable; whoever uses the beton then raises the error.
    """
    if config.benchmark.fingerprint is not None:
        return config
    path = manifest_path(config.benchmark.beton)
    try:
        fingerprint = _fingerprint_in(path, stamp_of(path))
    except UserError:
        return config
    return config.model_copy(update={"benchmark": config.benchmark.model_copy(update={"fingerprint": fingerprint})})


@lru_cache(maxsize=16)
def _fingerprint_in(path: Path, _stamp: Stamp) -> str:
    """Cached while the manifest is unchanged, because a search needs the fingerprint for every trial."""
    return read_manifest(path).fingerprint


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def _content_of(manifest: Manifest) -> dict[str, Any]:
    """The content of a manifest's file."""
    defaults = {field.name: field.default for field in fields(Manifest) if field.name in OPTIONAL_FIELDS}
    content = {
        name: value for name, value in asdict(manifest).items() if name not in defaults or value != defaults[name]
    }
    return {STORED_NAMES.get(name, name): value for name, value in content.items()}


def _from_content(content: dict[str, Any]) -> Manifest:
    names = {field.name: STORED_NAMES.get(field.name, field.name) for field in fields(Manifest)}
    values = {name: content[key] for name, key in names.items() if key in content or name not in OPTIONAL_FIELDS}
    tuples = {name: _as_tuple(value) for name, value in values.items() if isinstance(value, list)}
    passed_over = tuple(PassedOver(**entry) for entry in values["passed_over"])
    parts = {"image_field": ImageField(**values["image_field"]), "passed_over": passed_over}
    return Manifest(**{**values, **tuples, **parts})


def _as_tuple(values: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)
