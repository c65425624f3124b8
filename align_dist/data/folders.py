"""The reader of `<domain>/<class>/<image>` folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from align_dist.data.catalogue import Catalogue, LeftOut, Sample, count_by_reason, make_catalogue, printable
from align_dist.errors import DataError

# Image formats that Pillow reads. A file without a suffix is identified by its content.
IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif",
        ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".avif", ".tga", ".pcx", ".sgi",
    }
)  # fmt: skip
# Folders of file systems, archives and file servers, which are neither domains nor classes.
SYSTEM_FOLDERS = frozenset({"lost+found", "__MACOSX", "@eaDir", "System Volume Information", "$RECYCLE.BIN"})


@contextmanager
def read_errors(root: Path) -> Iterator[None]:
    """Raise a one-line DataError in place of an OSError while a benchmark's folders are read."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{printable(str(error.filename or root))}: cannot be read ({error.strerror}); make it readable for this "
            "user, or remove it from the benchmark's folder"
        ) from None


def read_folders(benchmark: str, root: Path, domains: Sequence[str] | None = None) -> Catalogue:
    """Read `<root>/<domain>/<class>/<image>`, and count other files by reason.

    domains: the folders to read; None reads all. Raises DataError for a missing folder, a domain without class folders
    and a class folder without images, OSError for unreadable files.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected <domain>/<class>/<image> in it")
    names = _subfolders(root) if domains is None else list(domains)
    if not names:
        raise DataError(f"{root}: no domain folders; expected <domain>/<class>/<image> in it")
    samples: list[Sample] = []
    left_out = _strays(root)
    for domain in names:
        samples.extend(_read_domain(root / domain, left_out))
    return make_catalogue(benchmark, root, samples, left_out)


def is_set_aside(name: str) -> bool:
    """Return whether a folder is hidden or made by the system."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if not is_set_aside(entry.name) and entry.is_dir())


def _strays(folder: Path) -> list[LeftOut]:
    """Images and dangling links in a place where only folders are expected."""
    paths = [Path(entry.path) for entry in os.scandir(folder) if not entry.is_dir()]
    dangling = [(path, "a link to nothing") for path in paths if not path.exists()]
    pictures = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.exists()]
    return dangling + [(path, "outside of the class folders") for path in pictures]


def _read_domain(folder: Path, left_out: list[LeftOut]) -> list[Sample]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected <class>/<image> in it")
    labels = _subfolders(folder)
    if not labels:
        raise DataError(f"{folder}: a domain without class folders; expected <class>/<image> inside")
    left_out += _strays(folder)
    samples: list[Sample] = []
    for label in labels:
        images, others = _read_class(folder / label)
        if not images:
            reasons = "".join(f"; {entry}" for entry in count_by_reason(folder, others))
            raise DataError(f"{folder / label}: no images in this class folder; add some or remove it{reasons}")
        samples.extend(Sample(path, folder.name, label) for path in images)
        left_out += others
    return samples


def _read_class(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """The images of a class folder, and all other files with reasons."""
    images, left_out = list[Path](), list[LeftOut]()
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if entry.is_dir():
            left_out += [(file, "in a folder within a class folder") for file in _files_below(path)]
            continue
        reason = _rejection(path, entry.is_file())
        if reason is None:
            images.append(path)
        else:
            left_out.append((path, reason))
    return images, left_out


def _files_below(folder: Path) -> list[Path]:
    if is_set_aside(folder.name):
        return []
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]


def _rejection(path: Path, is_file: bool) -> str | None:
    """The reason why a file of a class folder is not an image; None for an image."""
    if path.name.startswith("."):
        return "hidden"
    if not is_file:
        return "a link to nothing" if path.is_symlink() else "not a regular file"
    if not path.suffix:
        return None if is_image(path) else "not an image by its content, and without a suffix"
    return None if path.suffix.lower() in IMAGE_SUFFIXES else "not the suffix of a supported image format"


def is_image(path: Path) -> bool:
    """Return whether Pillow recognises a file's format by its first bytes."""
    try:
        with Image.open(path):
            return True
    except UnidentifiedImageError:
        return False
    except Exception:  # recognised, but damaged or unreadable: the scan of all images reports the error
        return True
