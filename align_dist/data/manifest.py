"""The JSON file beside a beton: what each of its samples is and where it came from."""

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
from align_dist.data.contents import Stamp, stamp_of
from align_dist.errors import DataError, StorageError, UserError
from align_dist.files import write_text

VERSION = 2
# What differs between two betons of the same pictures and masks.
UNTOLD = (
    "beton_bytes", "beton_sha256", "skipped", "skipped_hashes", "stamps", "mask_stamps", "passed_over", "sequences",
    "notes",
)  # fmt: skip
# Names that differ in the file: pictures have had their digest, and runs their ids, under this one.
ON_DISK = {"bundles": "groups"}
# Came later, and for the same reason is in the file of a benchmark that has it alone.
LATER = ("group_names", "group_indices", "parts", "agreement")
REMEDY = "make it again with `align-dist data prepare CONFIG --force`"


@dataclass(frozen=True)
class ImageField:
    """How images are stored. mode: 'jpg' or 'raw'. max_side: longer side in pixels, at most."""

    mode: str
    max_side: int
    quality: int


@dataclass(frozen=True)
class Manifest:
    """A beton's samples as parallel tuples; a sample's id is its index.

    paths: source, relative to the benchmark's root. hashes: SHA-256 of the source file. labels: index
    into classes. domain_indices: index into domains. bundles: smallest id of the sample's copies,
    near-copies and burst within its domain, which no cut goes through. skipped: unreadable sources that were left out.
    stamps: size and time of each source. mask_hashes, mask_stamps: of each sample's mask, empty without masks.
    passed_over: files that are no samples. sequences: the burst that the benchmark names for each sample, None for
    none. mask_values: what was asked for (mask_values.py). notes: how pictures and masks were read, a line each.
    group_names, group_indices: class and spurious attribute, and index into them; parts: `train`, `validation` or
    `test` as the benchmark has it; all empty for a benchmark without. agreement: see Catalogue.
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
    def pictures(self) -> str:
        """Sixteen hexadecimal digits that name the pictures and masks, and how they are stored: the same for the
        same bytes under the same names, whenever they were written.
        """
        return _digest({name: value for name, value in _content_of(self).items() if name not in UNTOLD})[:16]

    @cached_property
    def masks(self) -> str:
        """Eight hexadecimal digits that name the masks and how their values are read; empty without masks."""
        return _digest({"hashes": self.mask_hashes, "values": self.mask_values})[:8] if self.has_masks else ""

    def group_of(self, sample: int) -> str | None:
        """A sample's group by name; None where the benchmark has none."""
        return self.group_names[self.group_indices[sample]] if self.group_indices else None

    def part_of(self, sample: int) -> str | None:
        """A sample's part in the benchmark's own split; None where it has none."""
        return self.parts[sample] if self.parts else None


def manifest_path(beton: Path) -> Path:
    """`<name>.beton.json` beside `<name>.beton`."""
    return beton.with_name(f"{beton.name}.json")


def write_manifest(manifest: Manifest, path: Path) -> None:
    """The old file or the new one, never a part. Raises StorageError."""
    content = _content_of(manifest)
    write_text(path, json.dumps({"digest": _digest(content), "manifest": content}))


def read_manifest(path: Path) -> Manifest:
    """Raises DataError for a missing or damaged file and for one of another version, StorageError for one that this
    user may not read.
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
    """What to raise for a beton or a manifest that is there and may not be read."""
    return StorageError(f"{path}: cannot be read ({error.strerror}); give this user the right to read it")


def with_pictures(config: RunConfig) -> RunConfig:
    """The run with `benchmark.pictures` taken from its beton's manifest, unless it is given or there is none to read:
    then whatever uses the beton says why.
    """
    if config.benchmark.pictures is not None:
        return config
    path = manifest_path(config.benchmark.beton)
    try:
        pictures = _pictures_in(path, stamp_of(path))
    except UserError:
        return config
    return config.model_copy(update={"benchmark": config.benchmark.model_copy(update={"pictures": pictures})})


@lru_cache(maxsize=16)
def _pictures_in(path: Path, _stamp: Stamp) -> str:
    """Kept for as long as the manifest is the same: a search asks for every trial."""
    return read_manifest(path).pictures


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def _content_of(manifest: Manifest) -> dict[str, Any]:
    """What a manifest's file holds."""
    usual = {field.name: field.default for field in fields(Manifest) if field.name in LATER}
    told = {name: value for name, value in asdict(manifest).items() if name not in usual or value != usual[name]}
    return {ON_DISK.get(name, name): value for name, value in told.items()}


def _from_content(content: dict[str, Any]) -> Manifest:
    names = {field.name: ON_DISK.get(field.name, field.name) for field in fields(Manifest)}
    values = {name: content[told] for name, told in names.items() if told in content or name not in LATER}
    tuples = {name: _as_tuple(value) for name, value in values.items() if isinstance(value, list)}
    passed_over = tuple(PassedOver(**entry) for entry in values["passed_over"])
    parts = {"image_field": ImageField(**values["image_field"]), "passed_over": passed_over}
    return Manifest(**{**values, **tuples, **parts})


def _as_tuple(values: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)
